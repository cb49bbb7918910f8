"""Full-text search: over what was said and what files are called, by SQLite's FTS5 or PostgreSQL's tsvector.

On SQLite `search_entries` holds what is searched and `search` its index, both kept by triggers. Triggers go when a
migration rebuilds their table, so they are attached anew after every migration. On PostgreSQL two indexes are all.
"""

import re
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, inspect, literal_column, select, text, union

from longwick.database import Db
from longwick.models import Artifact, Message

MOST_CHARACTERS = 100_000
"""Of a message, so much is searched on PostgreSQL: a tsvector may have 1 MiB."""
EXCERPT_WORDS = 14
_WORD = re.compile(r"[^\W_]+")
# As FTS5 does: `report_2026.csv` is three words.
_PUNCTUATION = r"[!-/:-@\[-`{-~]+"


def words_of(column: str) -> str:
    """The SQL of a column's words on PostgreSQL: of the indexes and of what is asked for, the same to the letter."""
    return f"to_tsvector('simple', regexp_replace(left({column}, {MOST_CHARACTERS}), '{_PUNCTUATION}', ' ', 'g'))"


TRIGGERS = (
    """CREATE TRIGGER IF NOT EXISTS search_said AFTER INSERT ON messages BEGIN
    INSERT INTO search_entries (source, thread_id, body) VALUES (new.id, new.thread_id, new.text); END""",
    """CREATE TRIGGER IF NOT EXISTS search_said_otherwise AFTER UPDATE OF text ON messages BEGIN
    UPDATE search_entries SET body = new.text WHERE source = old.id; END""",
    """CREATE TRIGGER IF NOT EXISTS search_unsaid AFTER DELETE ON messages BEGIN
    DELETE FROM search_entries WHERE source = old.id; END""",
    """CREATE TRIGGER IF NOT EXISTS search_saved AFTER INSERT ON artifacts BEGIN
    INSERT INTO search_entries (source, thread_id, body) VALUES (new.id, new.thread_id, new.name); END""",
    """CREATE TRIGGER IF NOT EXISTS search_unsaved AFTER DELETE ON artifacts BEGIN
    DELETE FROM search_entries WHERE source = old.id; END""",
    """CREATE TRIGGER IF NOT EXISTS search_indexed AFTER INSERT ON search_entries BEGIN
    INSERT INTO search (rowid, body) VALUES (new.id, new.body); END""",
    """CREATE TRIGGER IF NOT EXISTS search_reindexed AFTER UPDATE ON search_entries BEGIN
    INSERT INTO search (search, rowid, body) VALUES ('delete', old.id, old.body);
    INSERT INTO search (rowid, body) VALUES (new.id, new.body); END""",
    """CREATE TRIGGER IF NOT EXISTS search_unindexed AFTER DELETE ON search_entries BEGIN
    INSERT INTO search (search, rowid, body) VALUES ('delete', old.id, old.body); END""",
)


def attach(connection: Connection) -> None:
    """Give SQLite the triggers that it lacks; may be repeated."""
    if connection.dialect.name == "sqlite" and inspect(connection).has_table("search_entries"):
        for trigger in TRIGGERS:
            connection.exec_driver_sql(trigger)


def threads_with(db: Db, query: str) -> Select[tuple[str]] | None:
    """The ids of threads with a message or a file name that has all the words, whoever owns them.

    Of the last word the beginning is enough. None where there is no word to look for.
    """
    words = _WORD.findall(query)
    if not words:
        return None
    if _sqlite(db):
        found = text(
            "SELECT thread_id FROM search_entries WHERE id IN (SELECT rowid FROM search WHERE search MATCH :q)"
        )
        matching = found.bindparams(q=_fts5(words)).columns(Message.thread_id)
        return select(matching.subquery().c.thread_id)
    said = select(Message.thread_id).where(_has("messages.text", words))
    saved = select(Artifact.thread_id).where(_has("artifacts.name", words))
    return select(union(said, saved).subquery().c.thread_id)


def excerpts(db: Db, thread_ids: Sequence[str], query: str) -> dict[str, str]:
    """Thread id -> the words around what was found there last, for those where anything was."""
    words = _WORD.findall(query)
    if not words or not thread_ids:
        return {}
    if _sqlite(db):
        newest = text(
            "SELECT max(id) FROM search_entries WHERE thread_id IN :threads"
            " AND id IN (SELECT rowid FROM search WHERE search MATCH :q) GROUP BY thread_id"
        ).bindparams(bindparam("threads", list(thread_ids), expanding=True))
        ids = db.scalars(newest, {"q": _fts5(words)}).all()
        shown = text(
            f"SELECT thread_id, snippet(search, 0, '', '', '…', {EXCERPT_WORDS})"  # noqa: S608 - a number of ours
            " FROM search JOIN search_entries ON search_entries.id = search.rowid"
            " WHERE search MATCH :q AND search.rowid IN :ids"
        ).bindparams(bindparam("ids", list(ids), expanding=True))
        return {row[0]: row[1] for row in db.execute(shown, {"q": _fts5(words)})} if ids else {}
    options = f"StartSel='', StopSel='', MaxWords={EXCERPT_WORDS}, MinWords=5, FragmentDelimiter=…, MaxFragments=1"
    found: dict[str, str] = {}
    for column, thread, order, words_in in (
        (Artifact.name, Artifact.thread_id, Artifact.id, "artifacts.name"),
        (Message.text, Message.thread_id, Message.id, "messages.text"),
    ):
        newest_ids = select(func.max(order)).where(thread.in_(thread_ids), _has(words_in, words)).group_by(thread)
        around = func.ts_headline(
            "simple", func.left(column, MOST_CHARACTERS), func.to_tsquery("simple", _ts(words)), options
        )
        found |= {row[0]: row[1] for row in db.execute(select(thread, around).where(order.in_(newest_ids)))}
    return found


def _sqlite(db: Db) -> bool:
    return db.get_bind().dialect.name == "sqlite"


def _fts5(words: Sequence[str]) -> str:
    return " ".join(f'"{word}"' for word in words) + "*"


def _ts(words: Sequence[str]) -> str:
    return " & ".join(f"'{word}'" for word in words) + ":*"


def _has(column: str, words: Sequence[str]) -> ColumnElement[bool]:
    vector: ColumnElement[bool] = literal_column(words_of(column))
    return vector.op("@@")(func.to_tsquery("simple", _ts(words)))
