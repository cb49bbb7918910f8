import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from longwick import ids
from longwick.ids import first_id, new_id

MILLISECOND = 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time in nanoseconds, as the only item, for a module that has made no id yet."""
    now = [1_700_000_000_000 * MILLISECOND]
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr("longwick.ids.time.time_ns", lambda: now[0])
    return now


def test_an_id_is_its_prefix_and_26_characters_that_cannot_be_misread() -> None:
    assert re.fullmatch(r"run_[0-9a-hjkmnp-tv-z]{26}", new_id("run"))


def test_a_later_id_sorts_later() -> None:
    made = [new_id("run") for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_ids_of_another_process_sort_by_time(clock: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(100):
        earlier = new_id("run")
        monkeypatch.setattr(ids, "_last", 0)  # as in a process that knows nothing of the other
        clock[0] += MILLISECOND
        assert earlier < new_id("run")


def test_a_clock_that_steps_back_does_not_turn_the_order(clock: list[int]) -> None:
    before = new_id("run")
    clock[0] -= 3600 * 1000 * MILLISECOND
    assert before < new_id("run")


def test_the_last_ids_of_a_millisecond_stay_distinct(clock: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longwick.ids.os.urandom", lambda size: b"\xff" * size)
    made = [new_id("run") for _ in range(100)]
    assert made == sorted(set(made))


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [name for names in pool.map(lambda _: [new_id("run") for _ in range(1000)], range(8)) for name in names]
    assert len(set(made)) == 8000


def test_the_first_id_of_a_moment_sorts_before_those_made_from_then_on(clock: list[int]) -> None:
    moment = datetime.fromtimestamp(clock[0] / 1e9, UTC)
    bound = first_id("art", moment)
    clock[0] -= MILLISECOND
    before = new_id("art")
    clock[0] += MILLISECOND
    assert before < bound < new_id("art")
    assert len(bound) == len(before)
    assert first_id("art", moment - timedelta(seconds=60)) < before
