from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwick.text import REPLACEMENT, clean, clean_json, shorten

ANYTHING = st.text(st.characters(exclude_categories=()))  # lone surrogates and NUL too


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("", ""),
        ("as it was, é and \N{CANDLE}", "as it was, é and \N{CANDLE}"),
        ("\x01\x7f\u2028\ufeff stay", "\x01\x7f\u2028\ufeff stay"),
        ("a\0b\0", "a\ufffdb\ufffd"),
        ("high \ud83d", "high \ufffd"),
        ("low \udd6f, and\0", "low \ufffd, and\ufffd"),
        ("\udd6f\ud83d", "\ufffd\ufffd"),
        ("\ufeff\ud800", "\ufeff\ufffd"),
        ("\N{CANDLE}\ud800\N{CANDLE}", "\N{CANDLE}\ufffd\N{CANDLE}"),
    ],
    ids=repr,
)
def test_nul_and_lone_surrogates_become_the_replacement_character(dirty: str, cleaned: str) -> None:
    assert clean(dirty) == cleaned


def test_a_pair_of_surrogates_becomes_the_character_that_it_means() -> None:
    assert clean("\ud83d\udd6f") == "\N{CANDLE}"


@settings(deadline=None, max_examples=50)
@given(ANYTHING)
def test_clean_text_can_be_stored_and_is_not_changed_again(text: str) -> None:
    cleaned = clean(text)
    assert "\0" not in cleaned.encode().decode()
    assert clean(cleaned) == cleaned
    assert (cleaned == text) or REPLACEMENT in cleaned or len(cleaned) < len(text)


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_text_that_is_clean_stays_as_it_is(text: str) -> None:
    if "\0" not in text:
        assert clean(text) == text


def test_every_string_of_a_json_value_is_cleaned_also_names() -> None:
    dirty: Any = {"a\0": ["\ud800", {"b": ("\0")}, 1, 1.5, None, True], "c": {}}
    assert clean_json(dirty) == {"a\ufffd": ["\ufffd", {"b": "\ufffd"}, 1, 1.5, None, True], "c": {}}


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "words", [], {}, [[{"a": [1]}]]], ids=repr)
def test_clean_json_stays_as_it_is(value: Any) -> None:
    assert clean_json(value) == value


@pytest.mark.parametrize(
    ("text", "limit", "shown"),
    [
        ("", 3, ""),
        ("abc", 3, "abc"),
        ("abcd", 3, "abc… (1 more characters)"),
        ("x" * 1000, 5, "xxxxx… (995 more characters)"),
    ],
)
def test_shortened_text_says_how_much_was_cut(text: str, limit: int, shown: str) -> None:
    assert shorten(text, limit) == shown
