"""What tokens cost, as the operator has it in the agents file; no price is known but these."""

import re
from collections.abc import Mapping

from pydantic import BaseModel, Field

PER = 1_000_000
DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


class Price(BaseModel, frozen=True, extra="forbid"):
    """Dollars for a million tokens of each kind: a table `[prices."MODEL"]`."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    """As `input` where it is not said."""
    cache_write: float | None = Field(default=None, ge=0)
    """As `input` where it is not said."""

    def of(self, used: Mapping[str, int]) -> float:
        """What so many tokens cost: `input_tokens` are those that were neither read from a cache nor written to it."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        dollars = (
            used.get("input_tokens", 0) * self.input
            + used.get("output_tokens", 0) * self.output
            + used.get("cache_read_input_tokens", 0) * read
            + used.get("cache_creation_input_tokens", 0) * write
        )
        return dollars / PER


def undated(model: str) -> str:
    """The name of a model without the date of its version: `m-20260101` and `m-2026-01-01` are an `m`."""
    return DATE.sub("", model)


def is_listed(model: str, listed: object) -> bool:
    """Whether a list or table names the model, or the one that it is a dated version of."""
    return isinstance(listed, (list, tuple, set, dict)) and (model in listed or undated(model) in listed)
