"""A log without the pieces of whole texts: what is shown is the same, positions are what they were."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from scene import check_log, fresh, log_of, running_run, spawned_run
from sqlalchemy import update

from longwick import audit, compaction, events, leases, runs
from longwick.database import Database, utc_now
from longwick.events import Event, EventType
from longwick.kinds import RunStatus
from longwick.leases import Held
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.settings import Settings
from longwick.storage import FolderStorage
from web.app import create_app

LATER = utc_now() + timedelta(days=1)


def piece(kind: EventType, text: str, **name: str) -> Event:
    return Event(kind, {**name, "text": text})


def tell(database: Database, run: Run, *told: Event) -> None:
    # A batch each, as the recorder may write them.
    for event in told:
        database.write(lambda db, event=event: events.append(db, run.id, run.attempt, [event]))  # type: ignore[misc]


@pytest.fixture
def over(database: Database) -> Run:
    """A run that thought, spoke, used a tool and spoke again, in many pieces, and is over."""
    run = spawned_run(database)
    thought, said, large, cut = {"reasoning_id": "r1"}, {"message_id": "m1"}, {"message_id": "m2"}, {"message_id": "m3"}
    tell(database, run, *[piece(EventType.REASONING_DELTA, f"why {n} ", **thought) for n in range(3)])
    tell(database, run, Event(EventType.REASONING_COMPLETED, {**thought, "text": "why 0 why 1 why 2 "}))
    tell(database, run, Event(EventType.MESSAGE_STARTED, said))
    tell(database, run, *[piece(EventType.MESSAGE_DELTA, f"{n} ", **said) for n in range(4)])
    tell(database, run, piece(EventType.TOOL_DELTA, '{"a"', tool_call_id="t1"))
    tell(database, run, Event(EventType.TOOL_STARTED, {"tool_call_id": "t1", "name": "t", "input": {"a": 1}}))
    tell(database, run, Event(EventType.TOOL_COMPLETED, {"tool_call_id": "t1", "output": "", "is_error": False}))
    tell(database, run, Event(EventType.MESSAGE_COMPLETED, {**said, "text": "0 1 2 3 ", "partial": False}))
    # What is too large for the log is in its pieces only, as far as a reader of events is concerned.
    tell(database, run, Event(EventType.MESSAGE_STARTED, large), piece(EventType.MESSAGE_DELTA, "large", **large))
    completed = {**large, "text": None, "value": {"field": "text"}, "partial": False}
    tell(database, run, Event(EventType.MESSAGE_COMPLETED, completed))
    # One transaction: a batch of which a part goes.
    whole = [Event(EventType.MESSAGE_STARTED, cut), piece(EventType.MESSAGE_DELTA, "cut", **cut)]
    closing = [Event(EventType.MESSAGE_COMPLETED, {**cut, "text": "cut", "partial": True})]
    database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.SUCCEEDED, "x"), [*whole, *closing]))
    return fresh(database, run)


def kinds(log: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(event["seq"], event["type"]) for event in log]


@pytest.mark.parametrize("page", [1, 300, 2**20])
def test_the_pieces_go_and_all_else_stays_where_it_was(
    page: int, database: Database, over: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PAGE_BYTES", page)
    before = check_log(database, over)
    assert compaction.due(database, LATER) == [over.id]
    assert compaction.compact(database, over.id) == 8
    after = log_of(database, over)
    assert [event for event in before if event in after] == after
    gone = [(event["type"], event["data"]["text"]) for event in before if event not in after]
    assert gone == [
        *[("reasoning.delta", f"why {n} ") for n in (1, 2)],
        *[("message.delta", f"{n} ") for n in range(4)],
        ("tool.delta", '{"a"'),
        ("message.delta", "cut"),
    ]
    assert compaction.due(database, LATER) == []
    assert compaction.compact(database, over.id) == 0
    assert log_of(database, over) == after
    assert list(audit.audit(database, FolderStorage(tmp_path))) == []


def test_a_compaction_that_was_broken_off_is_well_and_done_again(
    database: Database, over: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PAGE_BYTES", 1)
    pauses = iter(range(6))

    def crash() -> None:
        if next(pauses) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compaction.compact(database, over.id, crash)
    assert list(audit.audit(database, FolderStorage(tmp_path))) == []
    assert compaction.due(database, LATER) == [over.id]
    assert 0 < compaction.compact(database, over.id) < 8
    assert list(audit.audit(database, FolderStorage(tmp_path))) == []


def test_what_is_not_over_or_not_old_is_left_alone(database: Database, over: Run) -> None:
    running = running_run(database)
    tell(database, running, Event(EventType.MESSAGE_STARTED, {"message_id": "m"}))
    tell(database, running, piece(EventType.MESSAGE_DELTA, "x", message_id="m"))
    lost = spawned_run(database)
    leases.recover(database, Held(lost.id, 1, "wrk_test", 0), "test")
    assert compaction.due(database, utc_now() - timedelta(hours=1)) == []
    assert compaction.due(database, LATER) == [over.id, lost.id]
    assert database.read(lambda db: compaction.count_due(db, LATER)) == 2


def test_a_hole_that_no_compaction_made_is_told(database: Database, over: Run, tmp_path: Path) -> None:
    compaction.compact(database, over.id)
    database.write(lambda db: db.execute(update(Run).where(Run.id == over.id).values(compacted_through=3)))
    assert {violation.promise for violation in audit.audit(database, FolderStorage(tmp_path))} == {"dense"}


def test_readers_of_a_compacted_run_get_what_is_left_from_any_position(
    database: Database, settings: Settings, over: Run
) -> None:
    compaction.compact(database, over.id)
    left = log_of(database, over)
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as http:
        path = f"/api/v1/runs/{over.id}/events"
        for after in range(over.last_seq):
            expected = [seq for seq, _ in kinds(left) if seq > after]
            page = http.get(path, params={"after": after, "limit": 1000}).json()
            assert [event["seq"] for event in page["data"]] == expected
            assert page["has_more"] is False
            streamed = http.get(path, headers={"accept": "text/event-stream", "last-event-id": str(after)})
            assert [int(line[4:]) for line in streamed.text.splitlines() if line.startswith("id: ")] == expected
        paged, at = [], 0
        while (page := http.get(path, params={"after": at, "limit": 3}).json())["data"]:
            paged += page["data"]
            at = page["last_id"]
            assert page["has_more"] is (at < over.last_seq)
        assert paged == left
        assert http.get(path, headers={"accept": "text/event-stream", "last-event-id": str(at)}).status_code == 204
