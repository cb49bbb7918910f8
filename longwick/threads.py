"""Conversations and what was said in them."""

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from longwick import branches, search
from longwick.database import Db, utc_now
from longwick.errors import BadCursor, NotFound
from longwick.ids import new_id
from longwick.kinds import UNSETTLED, Role
from longwick.models import JsonObject, Message, Run, Thread
from longwick.paging import Page, page

TITLE_CHARACTERS = 80


def create(db: Db, owner: str, *, title: str = "", agent: str | None = None, extra: JsonObject | None = None) -> Thread:
    """A new, empty thread; it is written with its first turn, or at the end of the unit of work."""
    now = utc_now()
    thread = Thread(
        id=new_id("thr"),
        owner=owner,
        title=title,
        agent=agent,
        extra=extra or {},
        turns=0,
        created_at=now,
        updated_at=now,
        read_at=now,
    )
    db.add(thread)
    return thread


def get(db: Db, owner: str, thread_id: str) -> Thread:
    """A thread of this owner.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    thread = db.scalar(select(Thread).where(Thread.id == thread_id, Thread.owner == owner, Thread.deleted_at.is_(None)))
    if thread is None:
        raise NotFound(f"no thread {thread_id}")
    return thread


def lock(db: Db, owner: str, thread_id: str) -> Thread:
    """A thread of this owner, with nobody else changing what is in it until the end of this transaction.

    Raises:
        NotFound: there is none, or it is somebody else's.
    """
    db.execute(select(Thread.id).where(Thread.id == thread_id).with_for_update(key_share=True))
    return get(db, owner, thread_id)


def list_threads(
    db: Db,
    owner: str,
    *,
    limit: int = 100,
    after: str | None = None,
    query: str | None = None,
    by_update: bool = False,
) -> Page[Thread]:
    """The owner's threads, newest first, or `by_update` those first in which something happened last.

    With `query` those whose title has it, or whose messages or file names have all its words.

    Raises:
        BadCursor: the cursor is no thread, of which the last update could be known.
    """
    wanted = select(Thread).where(Thread.owner == owner, Thread.deleted_at.is_(None))
    if query:
        found = search.threads_with(db, query)
        in_title = Thread.title.icontains(query, autoescape=True)
        wanted = wanted.where(in_title if found is None else or_(in_title, Thread.id.in_(found)))
    if not by_update:
        return page(db, wanted, Thread.id, limit, after, newest=True)
    if after is not None:
        cursor = db.scalar(select(Thread.updated_at).where(Thread.id == after, Thread.owner == owner))
        if cursor is None:
            raise BadCursor(f"no thread {after}", param="after")
        earlier = and_(Thread.updated_at == cursor, Thread.id < after)
        wanted = wanted.where(or_(Thread.updated_at < cursor, earlier))
    rows = db.scalars(wanted.order_by(Thread.updated_at.desc(), Thread.id.desc()).limit(limit + 1)).all()
    return Page(rows[:limit], len(rows) > limit)


def unread(db: Db, threads: Sequence[Thread]) -> set[str]:
    """The ids of those threads in which a run came to its end since their owner saw them."""
    read = {thread.id: thread.read_at for thread in threads if thread.read_at is not None}
    ended = select(Run.thread_id, func.max(Run.finished_at)).where(Run.thread_id.in_(read)).group_by(Run.thread_id)
    return {thread for thread, at in db.execute(ended) if at is not None and at > read[thread]}


def mark_read(db: Db, thread: Thread) -> None:
    """Note that its owner has seen all that is in it."""
    thread.read_at = utc_now()
    db.flush()


def change(db: Db, thread: Thread, *, title: str | None = None, extra: JsonObject | None = None) -> Thread:
    """Give a thread another title or other metadata."""
    if title is not None:
        thread.title = title
    if extra is not None:
        thread.extra = extra
    thread.updated_at = utc_now()
    db.flush()
    return thread


def hide(db: Db, thread: Thread) -> None:
    """Delete a thread for everybody who looks: it, its runs and its files are not found any more."""
    thread.deleted_at = utc_now()
    db.flush()


def restore(db: Db, owner: str, thread_id: str) -> Thread:
    """A thread of this owner as it was before it was deleted, but for what ran in it; one that was not stays as it is.

    Raises:
        NotFound: there is none, or none any more, or it is somebody else's.
    """
    deleted = select(Thread).where(Thread.id == thread_id, Thread.owner == owner, Thread.removed_at.is_(None))
    thread = db.scalar(deleted.with_for_update())
    if thread is None:
        raise NotFound(f"no thread {thread_id}")
    thread.deleted_at = None
    db.flush()
    return thread


def active_runs(db: Db, threads: Sequence[Thread]) -> dict[str, str]:
    """Thread id -> the id of its run that is unsettled and first in turn, for those that have one."""
    first = (
        select(Run.thread_id, func.min(Run.turn).label("turn"))
        .where(Run.thread_id.in_([thread.id for thread in threads]), Run.status.in_(UNSETTLED))
        .group_by(Run.thread_id)
        .subquery()
    )
    heads = select(Run.thread_id, Run.id).join(
        first, and_(Run.thread_id == first.c.thread_id, Run.turn == first.c.turn)
    )
    return {row[0]: row[1] for row in db.execute(heads)}


def next_turn(db: Db, thread: Thread, *, title: str) -> int:
    """Take the thread's next turn, under its lock; an untitled thread gets its title from the first message.

    Raises:
        NotFound: the thread was deleted meanwhile.
    """
    if thread in db.new:
        # Nobody else knows of it yet.
        thread.turns, thread.title = 1, thread.title or _as_title(title)
        db.flush()
        return 1
    given = {"thread": thread.id, "now": utc_now(), "first_title": _as_title(title)}
    turn: int | None = db.scalar(_NEXT_TURN, given)
    if turn is None:
        raise NotFound(f"no thread {thread.id}")
    return turn


# Every run needs these, so they are built once: to build a statement takes longer than to execute it.
_NEXT_TURN = (
    update(Thread)
    .where(Thread.id == bindparam("thread"), Thread.deleted_at.is_(None))
    .values(
        turns=Thread.turns + 1,
        updated_at=bindparam("now"),
        title=func.coalesce(func.nullif(Thread.title, ""), bindparam("first_title")),
    )
    .returning(Thread.turns)
    .execution_options(synchronize_session=False)
)
_ADD_MESSAGE = insert(Message.metadata.tables[Message.__tablename__])


def add_message(db: Db, run: Run, role: Role, text: str, *, partial: bool = False, steers: bool = False) -> str:
    """Put a message into the run's turn of its thread; its id."""
    message_id = new_id("msg")
    db.execute(
        _ADD_MESSAGE,
        {
            "id": message_id,
            "thread_id": run.thread_id,
            "run_id": run.id,
            "turn": run.turn,
            "role": role,
            "text": text,
            "partial": partial,
            "steers": steers,
            "created_at": utc_now(),
        },
    )
    return message_id


def move_message(db: Db, message_id: str, run: Run) -> None:
    """Make a message of another turn the one that this run was asked."""
    moved = {"run_id": run.id, "turn": run.turn, "steers": False, "delivered_at": None}
    db.execute(update(Message).where(Message.id == message_id).values(moved))


def list_messages(db: Db, thread_id: str, *, limit: int = 100, after: str | None = None) -> Page[Message]:
    """What was said, turn by turn, in each the user first; `after` is a message's id.

    Raises:
        BadCursor: the cursor is no message of this thread.
    """
    wanted = select(Message).where(Message.thread_id == thread_id)
    if after is not None:
        cursor = db.scalar(wanted.where(Message.id == after))
        if cursor is None:
            raise BadCursor(f"no message {after}", param="after")
        # "user" sorts after "assistant", and comes first.
        wanted = wanted.where(
            or_(
                Message.turn > cursor.turn,
                and_(Message.turn == cursor.turn, Message.role < cursor.role),
                and_(Message.turn == cursor.turn, Message.role == cursor.role, Message.id > cursor.id),
            )
        )
    rows = db.scalars(wanted.order_by(Message.turn, Message.role.desc(), Message.id).limit(limit + 1)).all()
    return Page(rows[:limit], len(rows) > limit)


def history(db: Db, run: Run) -> list[tuple[Role, str]]:
    """What was said on a run's branch before its turn, by whom: what an agent that holds nothing has to be told."""
    said = db.execute(_HISTORY, {"thread": run.thread_id, "before": run.turn}).all()
    branch = branches.find_turns_before(db, run) if said else None
    return [(role, text) for role, text, turn in said if branch is None or turn in branch]


_HISTORY = (
    select(Message.role, Message.text, Message.turn)
    .where(Message.thread_id == bindparam("thread"), Message.turn < bindparam("before"))
    .order_by(Message.turn, Message.role.desc(), Message.id)
)


def touch(db: Db, thread_id: str) -> None:
    """Note that something happened in the thread."""
    db.execute(_TOUCH, {"thread": thread_id, "now": utc_now()})


_TOUCH = (
    update(Thread)
    .where(Thread.id == bindparam("thread"))
    .values(updated_at=bindparam("now"))
    .execution_options(synchronize_session=False)
)


def _as_title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"
