"""What must hold of every record, checked from what is in it; docs/reliability.md has the promises in words.

Each run is looked at in one state of the record, so that an audit may go on while Longwick works.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from longwick.database import Database, Db
from longwick.errors import NotFound
from longwick.events import TERMINAL_EVENTS, Batch, EventType
from longwick.kinds import ApprovalStatus, ArtifactType, OnWorkerLost, Role, RunStatus
from longwick.models import (
    AgentSession,
    Approval,
    Artifact,
    Blob,
    Lease,
    Message,
    Run,
    RunEvents,
    Thread,
    WorkspaceState,
)
from longwick.storage import CHUNK, Storage
from longwick.workspaces import read_manifest

AT_ONCE = 500
_OPENS = {EventType.MESSAGE_STARTED: "message_id", EventType.REASONING_DELTA: "reasoning_id"}
_CLOSES = {EventType.MESSAGE_COMPLETED: "message_id", EventType.REASONING_COMPLETED: "reasoning_id"}
_SAYS = {*_OPENS, *_CLOSES, EventType.TOOL_STARTED, EventType.TOOL_COMPLETED, EventType.MESSAGE_DELTA}
_ENDS = {
    RunStatus.SUCCEEDED: EventType.RUN_SUCCEEDED,
    RunStatus.FAILED: EventType.RUN_FAILED,
    RunStatus.CANCELLED: EventType.RUN_CANCELLED,
}

Json = dict[str, Any]
Check = Callable[[bool, str, str], None]
"""Notes a violation (its promise, and words) where something does not hold."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that the record breaks, and about what."""

    subject: str
    """The id of a run, an artifact or a thread's folder, or the digest of a blob."""
    promise: str
    words: str


@dataclass(slots=True)
class Audited:
    """How much was looked at."""

    runs: int = 0
    events: int = 0
    files: int = 0


def audit(database: Database, storage: Storage, audited: Audited | None = None) -> Iterator[Violation]:
    """Every violation in the record and the storage, as it is found; counts in `audited` what was looked at.

    Raises:
        Unavailable: the record does not answer.
    """
    count = audited or Audited()
    for run_id in _ids(database, Run.id):
        number, violations = audit_run(database, run_id)
        count.runs += 1
        count.events += number
        yield from violations
    for sha256 in _ids(database, Blob.sha256):
        count.files += 1
        yield from _audit_blob(database, storage, sha256)
    for state_id in _ids(database, WorkspaceState.id):
        yield from _audit_workspace(database, storage, state_id)


def audit_run(database: Database, run_id: str) -> tuple[int, list[Violation]]:
    """How many events a run has, and what is wrong with it; the bytes of its files are not looked at."""
    return database.read(lambda db: _audit_run(db, run_id))


def differences(database: Database, run_id: str, seen: Sequence[Json]) -> list[Violation]:
    """Where what a reader has seen of a run, from its first event on, is not what the record has."""
    log, violations = database.read(lambda db: _log(db, db.get_one(Run, run_id)))
    for position, (event, recorded) in enumerate(zip(seen, log, strict=False), 1):
        if event != recorded:
            return [*violations, Violation(run_id, "view", f"event {position} was seen as {event}, and is {recorded}")]
    if len(seen) > len(log):
        violations.append(Violation(run_id, "view", f"{len(seen)} events were seen, and there are {len(log)}"))
    if log and log[-1]["type"] in TERMINAL_EVENTS and len(seen) < len(log):
        violations.append(Violation(run_id, "view", f"only {len(seen)} of {len(log)} events were seen"))
    return violations


def _ids(database: Database, column: Any) -> Iterator[str]:
    """All ids, oldest first; of what is added meanwhile, perhaps some."""
    after = ""
    while True:
        page = select(column).where(column > after).order_by(column).limit(AT_ONCE)
        found = database.read(lambda db, page=page: db.scalars(page).all())  # type: ignore[misc]
        yield from found
        if len(found) < AT_ONCE:
            return
        after = found[-1]


def _audit_run(db: Db, run_id: str) -> tuple[int, list[Violation]]:
    run = db.get(Run, run_id)
    if run is None or db.get_one(Thread, run.thread_id).removed_at:
        # Old threads go while others are looked at, and piece by piece.
        return 0, []
    log, violations = _log(db, run)

    def check(holds: bool, promise: str, words: str) -> None:
        if not holds:
            violations.append(Violation(run_id, promise, words))

    last = log[-1]["seq"] if log else 0
    check(run.last_seq == last, "dense", f"the newest event of the run is {last}, and it counts {run.last_seq}")
    _check_end(run, log, check)
    _check_attempts(run, log, check)
    if run.status.terminal:
        _check_closed(log, check)
    _check_hold(db, run, check)
    _check_approvals(db, run, log, check)
    _check_messages(db, run, check)
    _check_artifacts(db, run, log, check)
    return len(log), violations


def _log(db: Db, run: Run) -> tuple[list[Json], list[Violation]]:
    """The run's events in order, and where their positions are not 1, 2, 3, ...; where it is compacted, they grow."""
    rows = db.execute(
        select(RunEvents.first_seq, RunEvents.last_seq, RunEvents.body)
        .where(RunEvents.run_id == run.id)
        .order_by(RunEvents.last_seq)
    )
    log: list[Json] = []
    violations = []
    at = 0
    for first, last, body in rows:
        lines = Batch(run.id, first, last, body).after(0)
        placed = [seq for seq, _ in lines]
        if last <= run.compacted_through:
            expected = f"some after {at}"
            well = at < first <= placed[0] and placed[-1] <= last and placed == sorted(set(placed))
        else:
            at = max(at, run.compacted_through)
            expected = f"{at + 1} and so on"
            well = first == at + 1 and placed == list(range(first, last + 1))
        if not well:
            words = f"a batch is said to hold events {first} to {last} and has {placed}, where {expected} should follow"
            violations.append(Violation(run.id, "dense", words))
        log += [json.loads(line) for _, line in lines]
        at = last
    if run.compacted_through and not run.status.terminal:
        violations.append(Violation(run.id, "dense", f"{run.status.value}, and compacted"))
    return log, violations


def _check_end(run: Run, log: Sequence[Json], check: Check) -> None:
    ends = [(event["seq"], event["type"]) for event in log if event["type"] in TERMINAL_EVENTS]
    expected = [(log[-1]["seq"], _ENDS[run.status])] if run.status.terminal and log else []
    check(ends == expected, "one end", f"the run is {run.status.value}, and its log has the ends {ends}")
    check(bool(log), "one end", "its log is empty")
    check((run.finished_at is not None) == run.status.terminal, "one end", f"{run.status.value}, {run.finished_at=}")


def _check_attempts(run: Run, log: Sequence[Json], check: Check) -> None:
    attempts = [event["attempt"] for event in log]
    check(attempts == sorted(attempts), "fence", "an attempt wrote after a later one had begun")
    check(max(attempts, default=0) <= run.attempt, "fence", f"the run is at attempt {run.attempt}, its log beyond")
    started = [event["data"]["attempt"] for event in log if event["type"] == EventType.RUN_STARTED]
    check(started == list(range(1, run.attempt + 1)), "attempts", f"{run.attempt} attempts, started: {started}")
    lost = [event["data"]["attempt"] for event in log if event["type"] == EventType.RUN_ATTEMPT_LOST]
    parked = [event["attempt"] for event in log if event["type"] == EventType.RUN_WAITING]
    left = set(range(1, run.attempt)).difference(lost, parked)
    check(not left, "attempts", f"attempts {sorted(left)} went on without being told to be lost")
    if run.on_worker_lost is OnWorkerLost.FAIL:
        spoke = {event["attempt"] for event in log if event["type"] in _SAYS and event["attempt"] < run.attempt}
        spoke = spoke.difference(parked)
        check(not spoke, "no silent rerun", f"the agent had begun in attempts {sorted(spoke)}, and was started again")


def _check_closed(log: Sequence[Json], check: Check) -> None:
    opened: Counter[str] = Counter()
    for event in log:
        if name := _CLOSES.get(event["type"]):
            opened[event["data"][name]] -= 1
        elif name := _OPENS.get(event["type"]):
            # A thought is opened by its first piece, whatever their number.
            opened[event["data"][name]] = 1
    left = sorted(block for block, number in opened.items() if number)
    check(not left, "closed", f"blocks that were opened and closed not exactly once: {left}")


def _check_hold(db: Db, run: Run, check: Check) -> None:
    held = list(db.scalars(select(Lease.attempt).where(Lease.run_id == run.id)))
    expected = [run.attempt] if run.status is RunStatus.RUNNING else []
    check(held == expected, "held", f"{run.status.value} in attempt {run.attempt}, held for attempts {held}")
    sessions = db.scalars(
        select(AgentSession.attempt).where(AgentSession.run_id == run.id, AgentSession.closed_at.is_(None))
    )
    dead = [attempt for attempt in sessions if [attempt] != expected]
    check(not dead, "fence", f"{run.status.value} in attempt {run.attempt}, with open sessions of {dead}")


def _check_approvals(db: Db, run: Run, log: Sequence[Json], check: Check) -> None:
    listed = list(db.execute(select(Approval.id, Approval.status).where(Approval.run_id == run.id)))
    asked = [event["data"]["approval"]["id"] for event in log if event["type"] == EventType.APPROVAL_REQUESTED]
    check(
        sorted(asked) == sorted(row[0] for row in listed),
        "asked",
        f"the log tells of {asked}, {len(listed)} are listed",
    )
    pending = [approval for approval, status in listed if status is ApprovalStatus.PENDING]
    check(not pending or not run.status.terminal, "asked", f"{run.status.value}, and {pending} still to be decided")
    check(bool(pending) or run.status is not RunStatus.WAITING, "asked", "waiting, and there is nothing to decide")


def _check_messages(db: Db, run: Run, check: Check) -> None:
    asked = select(Message.role, Message.text).where(Message.run_id == run.id, Message.steers.is_(False))
    said = db.execute(asked.order_by(Message.role.desc()))
    expected = [(Role.USER, run.input)]
    if run.output_text:
        expected.append((Role.ASSISTANT, run.output_text))
    found = [(role, text) for role, text in said]
    check(found == expected, "messages", f"{len(found)} messages that are not what the run was asked and answered")


def _check_artifacts(db: Db, run: Run, log: Sequence[Json], check: Check) -> None:
    listed = select(Artifact.id).where(Artifact.run_id == run.id, Artifact.type == ArtifactType.GENERATED_FILE)
    told = [event["data"]["artifact"]["id"] for event in log if event["type"] == EventType.ARTIFACT_SAVED]
    found = sorted(db.scalars(listed))
    check(found == sorted(told), "artifacts", f"listed are {found}, and the log tells of {sorted(told)}")


def _audit_blob(database: Database, storage: Storage, sha256: str) -> Iterator[Violation]:
    def read(db: Db) -> tuple[int | None, list[str]]:
        size = db.scalar(select(Blob.size).where(Blob.sha256 == sha256))
        wrong = select(Artifact.id).where(Artifact.sha256 == sha256, Artifact.size != size)
        return size, list(db.scalars(wrong))

    size, wrong = database.read(read)
    if size is None:
        return
    yield from (Violation(artifact_id, "bytes", f"its size is not that of its {size} bytes") for artifact_id in wrong)
    digest, found = hashlib.sha256(), 0
    try:
        with storage.open(sha256) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                found += len(chunk)
    except NotFound:
        if database.read(lambda db: db.get(Blob, sha256)):
            yield Violation(sha256, "bytes", "the record knows these bytes, and storage has none")
        return
    if (digest.hexdigest(), found) != (sha256, size):
        yield Violation(sha256, "bytes", f"storage has {found} other bytes, of {size}")


def _audit_workspace(database: Database, storage: Storage, state_id: str) -> Iterator[Violation]:
    """What a thread's folder lacks; that storage has what the record lists is looked at blob by blob."""

    def find(db: Db) -> Any:
        both = select(WorkspaceState, Run).join(Run, Run.id == WorkspaceState.run_id)
        return db.execute(both.where(WorkspaceState.id == state_id)).one_or_none()

    if (found := database.read(find)) is None:
        return
    state, run = found
    if (run.thread_id, max(run.attempt, state.attempt)) != (state.thread_id, run.attempt):
        yield Violation(state_id, "fence", f"it is said to be of attempt {state.attempt} of {run.id}, which had none")
    try:
        manifest = read_manifest(storage, state)
    except NotFound as error:
        if database.read(find):
            yield Violation(state_id, "bytes", f"it cannot be restored: {error}")
        return
    wanted = {file.sha256: file.size for file in manifest.files.values()}
    listed: dict[str, int] = {}
    digests = sorted(wanted)
    for first in range(0, len(digests), AT_ONCE):
        blobs = select(Blob.sha256, Blob.size).where(Blob.sha256.in_(digests[first : first + AT_ONCE]))
        listed |= database.read(lambda db, blobs=blobs: {row[0]: row[1] for row in db.execute(blobs)})  # type: ignore[misc]
    lacking = [path for path, file in manifest.files.items() if listed.get(file.sha256) != file.size]
    if lacking:
        yield Violation(state_id, "bytes", f"the record knows no bytes of {len(lacking)} of its files: {lacking[0]!r}")
    if (state.files, state.size) != (len(manifest.files), manifest.size):
        yield Violation(state_id, "bytes", f"it is said to have {state.files} files of {state.size} bytes, and has not")
