"""Waiting for a condition; the only place in the tests that sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.01


def wait_for(condition: Callable[[], T | None], seconds: float = 30.0, what: str = "the condition") -> T:
    """The first true value that `condition` gives.

    Raises:
        AssertionError: none came within `seconds`; the message says `what` was awaited and what was seen last.
    """
    give_up = time.monotonic() + seconds
    while True:
        last_chance = time.monotonic() >= give_up
        value = condition()
        if value:
            return value
        if last_chance:
            raise AssertionError(f"waited {seconds} s for {what}, and last saw {value!r}")
        time.sleep(POLL_SECONDS)
