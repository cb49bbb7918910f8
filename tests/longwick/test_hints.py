"""Dispatch: which runs get a hint, and when again."""

from datetime import timedelta

import pytest
from scene import OWNER, list_worker, new_thread, queued_run, running_run

from longwick import hints, runs
from longwick.database import Database, utc_now
from longwick.hints import choose_hints, take_hints
from longwick.kinds import RunKind
from longwick.models import Run


def hinted(database: Database) -> list[str]:
    return [hint.run_id for hint in take_hints(database)]


def age_hints(database: Database, seconds: float) -> None:
    def age(db: object) -> None:
        for run in runs.list_runs(db, OWNER).data:  # type: ignore[arg-type] # a Db
            if run.hinted_at is not None:
                run.hinted_at -= timedelta(seconds=seconds)

    database.write(age)


def test_without_a_worker_nothing_is_hinted(database: Database) -> None:
    queued_run(database)
    assert hinted(database) == []


def test_each_run_is_hinted_once(database: Database) -> None:
    list_worker(database)
    made = [queued_run(database) for _ in range(3)]
    assert hinted(database) == [run.id for run in made]
    assert hinted(database) == []


def test_only_heads_of_threads_are_hinted(database: Database) -> None:
    list_worker(database)
    thread = new_thread(database)
    first, _ = queued_run(database, thread), queued_run(database, thread)
    assert hinted(database) == [first.id]


def test_no_more_than_the_lane_takes_are_outstanding(database: Database) -> None:
    list_worker(database, chat=3, background=1)
    for _ in range(5):
        queued_run(database)
        queued_run(database, kind=RunKind.BACKGROUND)
    lanes = [hint.lane for hint in take_hints(database)]
    assert (lanes.count(RunKind.CHAT), lanes.count(RunKind.BACKGROUND)) == (3, 1)
    assert hinted(database) == []


def test_running_runs_count_as_outstanding(database: Database) -> None:
    list_worker(database, chat=2)
    running_run(database)
    queued = [queued_run(database) for _ in range(2)]
    assert hinted(database) == [queued[0].id]


def test_owners_take_turns(database: Database) -> None:
    list_worker(database, chat=4)
    greedy = [queued_run(database, new_thread(database, "greedy")) for _ in range(6)]
    modest = [queued_run(database, new_thread(database, "modest")) for _ in range(2)]
    assert hinted(database) == [greedy[0].id, modest[0].id, greedy[1].id, modest[1].id]


def test_an_owner_with_runs_running_waits_for_those_with_none(database: Database) -> None:
    list_worker(database, chat=4)
    for _ in range(3):
        running_run(database, new_thread(database, "greedy"))
    queued_run(database, new_thread(database, "greedy"))
    modest = queued_run(database, new_thread(database, "modest"))
    assert hinted(database) == [modest.id]


def test_an_agent_with_a_limit_leaves_the_slots_to_others(database: Database) -> None:
    list_worker(database, agents={"demo": 2, "other": None}, chat=10)
    limited = [queued_run(database) for _ in range(4)]
    other = queued_run(database, agent="other")
    assert hinted(database) == [limited[0].id, limited[1].id, other.id]


def test_f4_a_hint_that_led_to_nothing_is_sent_again_later_and_later(database: Database) -> None:
    list_worker(database)
    run = queued_run(database)
    waits = []
    for _ in range(6):
        assert hinted(database) == [run.id]
        waited = 0
        while not hinted_after(database, waited):
            waited += 5
        waits.append(waited)
    assert waits == [10, 20, 40, 60, 60, 60]


def hinted_after(database: Database, seconds: int) -> bool:
    """Whether a hint would be sent after so long; looks without sending."""

    class Undo(Exception):
        pass

    found: list[object] = []

    def look(db: object) -> None:
        for run in runs.list_runs(db, OWNER).data:  # type: ignore[arg-type] # a Db
            if run.hinted_at is not None:
                run.hinted_at -= timedelta(seconds=seconds + 0.5)
        db.flush()  # type: ignore[attr-defined]
        found.extend(choose_hints(db))  # type: ignore[arg-type]
        raise Undo

    with pytest.raises(Undo):
        database.write(look)
    if found:
        age_hints(database, seconds + 0.5)
    return bool(found)


def test_f35_a_clock_that_was_set_back_delays_no_hint(database: Database) -> None:
    list_worker(database)
    run = queued_run(database)
    hinted(database)
    age_hints(database, -7200)
    assert hinted(database) == [run.id]


def while_another_chooses(
    database: Database, monkeypatch: pytest.MonkeyPatch, *seen: Run
) -> tuple[list[str], list[str]]:
    """What one dispatcher is given, and then another, which has chosen among those that it has `seen` before that."""
    chosen = [hints.Hint(run.id, run.kind, run.owner, run.agent) for run in seen]
    first = hinted(database)
    monkeypatch.setattr(hints, "choose_hints", lambda db, usual: chosen)
    return first, hinted(database)


def test_f38_of_two_that_choose_the_same_run_one_takes_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    list_worker(database)
    run = queued_run(database)
    assert while_another_chooses(database, monkeypatch, run) == ([run.id], [])
    hinted_at = database.read(lambda db: db.get_one(Run, run.id)).hinted_at
    assert hinted_at is not None
    assert utc_now() - hinted_at < timedelta(seconds=5)


def test_f38_two_that_see_other_runs_do_not_send_more_than_the_lane_takes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they do where runs are accepted at the same moment: the one that was made first may be there last."""
    list_worker(database, chat=2)
    made = [queued_run(database) for _ in range(4)]
    assert while_another_chooses(database, monkeypatch, *made[1:3]) == ([run.id for run in made[:2]], [])


def test_f38_nor_more_than_the_agent_takes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    list_worker(database, agents={"demo": 1})
    first, second = queued_run(database), queued_run(database)
    assert while_another_chooses(database, monkeypatch, second) == ([first.id], [])
