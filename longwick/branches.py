"""The branches of a thread: which run goes on from which, whatever the order in which they have their turns."""

from sqlalchemy import bindparam, select

from longwick.database import Db
from longwick.errors import Invalid
from longwick.models import Run, Thread

NOTHING = "nothing"
"""What a run follows that begins a thread anew."""

_FORKS = select(Run.id).where(
    Run.thread_id == bindparam("thread"), Run.turn <= bindparam("upto"), Run.follows.is_not(None)
)
_TURNS = select(Run.id, Run.turn, Run.follows).where(
    Run.thread_id == bindparam("thread"), Run.turn <= bindparam("upto")
)


def find_turns_before(db: Db, run: Run) -> set[int] | None:
    """The turns of the runs that a run follows, one after the other; None where its thread has no branches."""
    asked = {"thread": run.thread_id, "upto": run.turn}
    if db.scalar(_FORKS, asked) is None:
        return None
    follows = {row.turn: row.follows for row in db.execute(_TURNS, asked)}
    turn_of = {row.id: row.turn for row in db.execute(_TURNS, asked)}
    before: set[int] = set()
    at = run.turn
    while at in follows:
        named = follows[at]
        # What waits may since have been put before the run that it was to follow.
        earlier = turn_of.get(named, at) if named else at
        at = 0 if named == NOTHING else earlier if earlier < at else at - 1
        before.add(at)
    return before


def followed_by(db: Db, run: Run) -> str:
    """What a run follows: the id of a run, or `nothing`."""
    if run.follows:
        return run.follows
    earlier = select(Run.id).where(Run.thread_id == run.thread_id, Run.turn < run.turn)
    return db.scalar(earlier.order_by(Run.turn.desc()).limit(1)) or NOTHING


def check(db: Db, owner: str, thread: Thread | None, follows: str) -> None:
    """See that a new run of this thread may follow that.

    Raises:
        Invalid: it is no run of this thread.
    """
    if follows == NOTHING:
        return
    of_thread = select(Run.id).where(
        Run.id == follows, Run.owner == owner, Run.thread_id == (thread.id if thread else "")
    )
    if db.scalar(of_thread) is None:
        raise Invalid(f"follows: no run {follows} in this thread", param="follows")
