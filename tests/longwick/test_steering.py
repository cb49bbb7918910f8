"""More to say to a run while it is at work."""

import pytest
from scene import OWNER, fresh, log_of, queued_run, spawned_run

from longwick import audit, runs, steering, submission, threads, transcript
from longwick.database import Database
from longwick.errors import Conflict, TooMany
from longwick.kinds import RunStatus
from longwick.models import Run
from longwick.outcomes import Outcome
from longwick.runs import NewRun
from longwick.submission import IfBusy


def steer(database: Database, run: Run, text: str = "And quickly.") -> str:
    return database.write(lambda db: steering.steer(db, run, text))


def deliver(database: Database, run: Run) -> None:
    for given in database.read(lambda db: steering.undelivered(db, run.id)):
        database.write(lambda db, given=given: steering.deliver(db, run, given))  # type: ignore[misc]


def settle(database: Database, run: Run, status: RunStatus) -> None:
    database.write(lambda db: runs.settle(db, run.id, run.attempt, Outcome(status, "Done")))


def said(database: Database, run: Run) -> list[tuple[str, str, int]]:
    page = database.read(lambda db: threads.list_messages(db, run.thread_id))
    return [(message.role.value, message.text, message.turn) for message in page.data]


def test_it_is_a_message_of_the_turn_and_told_once_it_is_delivered(database: Database) -> None:
    run = spawned_run(database)
    message_id = steer(database, run)
    assert database.read(lambda db: steering.runs_with_undelivered(db, [run.id])) == {run.id}
    assert not database.read(lambda db: steering.is_delivered(db, message_id))
    deliver(database, run)
    assert database.read(lambda db: steering.is_delivered(db, message_id))
    assert log_of(database, run)[-1]["data"] == {"message_id": message_id, "text": "And quickly."}
    blocks = database.read(lambda db: transcript.blocks(db, run.id))
    assert [(block.by_user, block.text) for block in blocks] == [(True, "And quickly.")]
    settle(database, run, RunStatus.SUCCEEDED)
    assert said(database, run) == [("user", "hello", 1), ("user", "And quickly.", 1), ("assistant", "Done", 1)]
    assert audit.audit_run(database, run.id)[1] == []


def test_a39_only_so_much_waits_for_an_agent(database: Database) -> None:
    run = spawned_run(database)
    for _ in range(steering.MOST_UNDELIVERED):
        steer(database, run)
    with pytest.raises(TooMany) as refused:
        steer(database, run)
    assert refused.value.code == "too_many_queued"
    deliver(database, run)
    assert steer(database, run)


def test_a_run_that_is_not_at_work_takes_nothing(database: Database) -> None:
    with pytest.raises(Conflict) as caught:
        steer(database, queued_run(database))
    assert caught.value.code == "not_steerable"


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED])
def test_what_did_not_reach_the_agent_in_time_is_the_next_run(database: Database, status: RunStatus) -> None:
    run = spawned_run(database)
    message_id = steer(database, run)
    settle(database, run, status)
    page = database.read(lambda db: runs.list_runs(db, OWNER, thread_id=run.thread_id))
    following = page.data[0]
    assert (following.status, following.input, following.turn) == (RunStatus.QUEUED, "And quickly.", 2)
    messages = database.read(lambda db: threads.list_messages(db, run.thread_id)).data
    assert [(message.id, message.run_id) for message in messages if message.turn == 2] == [(message_id, following.id)]
    assert [audit.audit_run(database, each.id)[1] for each in (run, following)] == [[], []]


def test_a_cancelled_run_asks_nothing_further(database: Database) -> None:
    run = spawned_run(database)
    steer(database, run)
    settle(database, run, RunStatus.CANCELLED)
    assert len(database.read(lambda db: runs.list_runs(db, OWNER)).data) == 1


def test_a_submission_may_steer_what_is_at_work_and_waits_where_that_cannot_be(database: Database) -> None:
    run = spawned_run(database)

    def submit(*, can: bool) -> Run:
        new = NewRun("And quickly.", "demo")
        return database.write(
            lambda db: submission.submit(
                db, OWNER, new, thread_id=run.thread_id, if_busy=IfBusy.STEER, can_steer=lambda agent: can
            )
        )

    assert submit(can=True).id == run.id
    assert submit(can=False).id != run.id
    assert fresh(database, run).status is RunStatus.RUNNING
