"""A finished record, held to what Longwick promises."""

from collections.abc import Iterable, Mapping, Sequence

from stack import Json, Stack

from longwick import audit
from longwick.audit import Audited, Violation
from longwick.database import Database
from longwick.storage import FolderStorage

Seen = Iterable[tuple[str, Sequence[Json]]]
"""Of each reader: the id of a run, and the events that it saw of it."""


def audit_stack(stack: Stack, record_url: str, seen: Seen) -> tuple[Audited, list[Violation]]:
    """How much there is in a stack's record and storage, and what is wrong with it or with what was `seen` of it."""
    database = Database(record_url)
    try:
        audited = Audited()
        violations = list(audit.audit(database, FolderStorage(stack.data_dir / "blobs"), audited))
        for run_id, events in seen:
            violations += audit.differences(database, run_id, events)
        return audited, violations
    finally:
        database.dispose()


def check_record(stack: Stack, seen: Mapping[str, Sequence[Json]], *, runs: int) -> None:
    """No promise is broken in the stack's record of so many `runs`, and each was `seen` as it is there."""
    audited, violations = audit_stack(stack, stack.environ["LONGWICK_DATABASE_URL"], seen.items())
    assert not violations, "\n".join(map(str, violations))
    assert audited.runs == runs
