"""A bounded part of `make fuzz`, from seeds that have found something once."""

from collections.abc import Callable

import pytest

from fuzz import api, frames, names, translators
from fuzz.findings import LEAST, Findings

SECONDS = 3.0


@pytest.mark.parametrize(
    ("fuzz", "seed"), [(translators.fuzz, 1), (frames.fuzz, 1), (names.fuzz, 1)], ids=["translators", "frames", "names"]
)
def test_nothing_that_is_damaged_or_made_up_does_any_harm(fuzz: Callable[[float, int], Findings], seed: int) -> None:
    findings = fuzz(SECONDS, seed)
    assert findings.found == []
    assert findings.cases > LEAST


def test_the_api_keeps_to_its_document_whatever_it_is_asked() -> None:
    findings = api.fuzz(20, 1, "--max-examples", "2")
    assert findings.found == []
    assert findings.cases > LEAST
