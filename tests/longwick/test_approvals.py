"""What agents ask leave for, and what becomes of it."""

from datetime import timedelta

import pytest
from scene import OWNER, check_log, fresh, log_of, new_thread, queued_run, spawned_run, types_of
from sqlalchemy import update

from longwick import approvals, audit, cancellation, leases, runs
from longwick.database import Database, utc_now
from longwick.errors import Conflict, Fenced, NotFound
from longwick.kinds import ApprovalStatus, OnWorkerLost, RunStatus
from longwick.leases import Held
from longwick.models import Approval, Run
from longwick.outcomes import Outcome


def ask(database: Database, run: Run, seconds: float = 60) -> Approval:
    return database.write(lambda db: approvals.request(db, run, "Bash", {"command": "ls"}, seconds))


def decide(database: Database, approval: Approval, *, allowed: bool = True, message: str | None = None) -> Approval:
    return database.write(lambda db: approvals.decide(db, OWNER, approval.id, allowed, message))


def park(database: Database, run: Run) -> Run | None:
    return database.write(lambda db: approvals.park(db, run.id, run.attempt, []))


def claim(database: Database, run: Run) -> Run:
    claimed = database.write(lambda db: runs.claim(db, run.id, "wrk_test", {}))
    assert claimed is not None
    return claimed


def status(database: Database, approval: Approval) -> ApprovalStatus:
    return database.read(lambda db: approvals.get(db, OWNER, approval.id)).status


def well(database: Database, run: Run) -> bool:
    check_log(database, run)
    return audit.audit_run(database, run.id)[1] == []


def test_what_is_asked_is_told_and_listed_and_decided_once(database: Database) -> None:
    run = spawned_run(database)
    asked = ask(database, run)
    assert [each.id for each in database.read(lambda db: approvals.list_approvals(db, OWNER)).data] == [asked.id]
    told = log_of(database, run)[-1]
    assert (told["type"], told["data"]["approval"]["input"]) == ("approval.requested", {"command": "ls"})
    assert database.read(lambda db: approvals.decided(db, [asked.id])) == []
    decide(database, asked, allowed=False, message="Not here.")
    decision = database.read(lambda db: approvals.decided(db, [asked.id]))[0]
    assert (decision.allowed, decision.words) == (False, "The user does not allow it. Not here.")
    assert log_of(database, run)[-1]["data"]["approval"]["status"] == "denied"
    with pytest.raises(Conflict) as caught:
        decide(database, asked)
    assert caught.value.code == "already_decided"
    assert well(database, run)


def test_nobody_else_sees_or_decides_it(database: Database) -> None:
    asked = ask(database, spawned_run(database))
    with pytest.raises(NotFound):
        database.write(lambda db: approvals.decide(db, "somebody", asked.id, True))
    assert database.read(lambda db: approvals.list_approvals(db, "somebody")).data == []


def test_a_fenced_attempt_cannot_ask(database: Database) -> None:
    run = spawned_run(database)
    leases.recover(database, Held(run.id, 1, "wrk_test", 0), "test")
    with pytest.raises(Fenced):
        ask(database, run)


def test_a_parked_run_needs_nobody_and_goes_on_once_all_is_decided(database: Database) -> None:
    run = spawned_run(database)
    first, second = ask(database, run), ask(database, run)
    assert park(database, run) is not None
    assert fresh(database, run).status is RunStatus.WAITING
    assert database.read(leases.all_held) == []
    assert well(database, run)
    decide(database, first)
    assert fresh(database, run).status is RunStatus.WAITING
    decide(database, second, allowed=False)
    assert fresh(database, run).status is RunStatus.QUEUED
    again = claim(database, run)
    decisions = database.read(lambda db: approvals.of_parked(db, again))
    assert [decision.allowed for decision in decisions] == [True, False]
    assert types_of(database, run)[-5:] == [
        *("run.waiting", "run.waiting", "approval.resolved", "approval.resolved", "run.started"),
    ]
    assert well(database, run)


def test_what_was_decided_just_before_it_is_parked_has_it_go_on_at_once(database: Database) -> None:
    run = spawned_run(database)
    decide(database, ask(database, run))
    parked = park(database, run)
    assert parked is not None
    assert parked.status is RunStatus.QUEUED
    assert well(database, run)


def test_a_run_that_waits_often_is_not_taken_for_one_that_is_lost_often(database: Database) -> None:
    run = spawned_run(database)
    for _ in range(runs.MOST_ATTEMPTS + 1):
        asked = ask(database, run)
        park(database, run)
        decide(database, asked)
        run = claim(database, run)
    assert leases.recover(database, Held(run.id, run.attempt, "wrk_test", 0), "test") is not None
    assert fresh(database, run).status is RunStatus.QUEUED
    assert well(database, run)


def test_what_nobody_decides_is_denied_and_a_parked_run_goes_on_with_that(database: Database) -> None:
    run = spawned_run(database)
    asked = ask(database, run)
    park(database, run)
    assert not database.read(approvals.any_due)
    past = utc_now() - timedelta(seconds=1)
    database.write(lambda db: db.execute(update(Approval).values(expires_at=past)))
    assert database.read(approvals.any_due)
    database.write(approvals.expire_due)
    assert status(database, asked) is ApprovalStatus.EXPIRED
    assert not database.read(approvals.any_due)
    again = claim(database, run)
    assert "Nobody has answered" in database.read(lambda db: approvals.of_parked(db, again))[0].words


@pytest.mark.parametrize("parked", [False, True])
def test_a_run_that_is_over_asks_nothing_any_more(database: Database, parked: bool) -> None:
    run = spawned_run(database)
    asked = ask(database, run)
    if parked:
        park(database, run)
        database.write(lambda db: cancellation.request(db, OWNER, run.id))
    else:
        database.write(lambda db: runs.settle(db, run.id, 1, Outcome(RunStatus.FAILED)))
    assert status(database, asked) is ApprovalStatus.EXPIRED
    with pytest.raises(Conflict):
        decide(database, asked)
    assert well(database, run)


def test_a_waiting_run_holds_its_thread(database: Database) -> None:
    thread = new_thread(database)
    run = spawned_run(database, thread)
    ask(database, run)
    following = queued_run(database, thread)
    park(database, run)
    assert database.write(lambda db: runs.claim(db, following.id, "wrk_test", {})) is None


def test_what_was_allowed_to_an_attempt_that_was_lost_is_not_allowed_to_the_next(database: Database) -> None:
    run = spawned_run(database, on_worker_lost=OnWorkerLost.RETRY)
    decide(database, ask(database, run))
    leases.recover(database, Held(run.id, 1, "wrk_test", 0), "test")
    again = claim(database, run)
    assert database.read(lambda db: approvals.of_parked(db, again)) == []


@pytest.mark.parametrize("broken", ["over", "waiting"])
def test_a_run_that_is_over_and_asks_or_waits_for_nothing_is_told_by_the_audit(database: Database, broken: str) -> None:
    run = spawned_run(database)
    asked = ask(database, run)
    park(database, run)
    assert well(database, run)
    if broken == "over":
        database.write(lambda db: cancellation.request(db, OWNER, run.id))
        assert well(database, run)
        pending = update(Approval).where(Approval.id == asked.id).values(status=ApprovalStatus.PENDING)
        database.write(lambda db: db.execute(pending))
    else:
        expired = update(Approval).where(Approval.id == asked.id).values(status=ApprovalStatus.EXPIRED)
        database.write(lambda db: db.execute(expired))
    assert "asked" in {violation.promise for violation in audit.audit_run(database, run.id)[1]}
