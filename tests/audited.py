"""A finished record, held to what Longwick promises."""

from collections.abc import Mapping, Sequence

from stack import Json, Stack

from longwick import audit
from longwick.audit import Audited
from longwick.database import Database
from longwick.storage import FolderStorage


def check_record(stack: Stack, seen: Mapping[str, Sequence[Json]], *, runs: int | None = None) -> Audited:
    """No promise is broken in the stack's record, and each run was `seen` as it is there; how much there is.

    `runs` is how many there must be.
    """
    database = Database(stack.environ["LONGWICK_DATABASE_URL"])
    try:
        audited = Audited()
        violations = list(audit.audit(database, FolderStorage(stack.data_dir / "blobs"), audited))
        for run_id, events in seen.items():
            violations += audit.differences(database, run_id, events)
        assert not violations, "\n".join(map(str, violations))
        assert runs is None or audited.runs == runs, f"{audited.runs} runs, of {runs}"
        return audited
    finally:
        database.dispose()
