from pathlib import Path

import pytest
from scene import OWNER, queued_run, running_run
from sqlalchemy import text, update

from longwick import runs, schema, search, threads
from longwick.artifacts import Save, attach
from longwick.database import Database
from longwick.kinds import RunStatus
from longwick.models import Message, Run
from longwick.outcomes import Outcome
from longwick.storage import FolderStorage


def answered(database: Database, asked: str, answer: str) -> Run:
    run = running_run(database, text=asked)
    database.write(lambda db: runs.settle(db, run.id, run.attempt, Outcome(RunStatus.SUCCEEDED, answer)))
    return run


def found(database: Database, query: str, owner: str = OWNER) -> list[str]:
    page = database.read(lambda db: threads.list_threads(db, owner, query=query))
    return [thread.id for thread in page.data]


def execute(database: Database, statement: str) -> None:
    database.write(lambda db: db.execute(text(statement)))


def excerpt(database: Database, run: Run, query: str) -> str:
    return database.read(lambda db: search.excerpts(db, [run.thread_id], query))[run.thread_id]


@pytest.fixture
def lighthouse(database: Database) -> Run:
    answered(database, "Write about the tides", "Twice a day the water comes.")
    return answered(database, "Tell me of the coast", "There stood a lighthouse, tall_and_white; Leuchttürme burn.")


@pytest.mark.parametrize(
    "query",
    ["lighthouse", "LIGHTHOUSE", "stood lighthouse", "lighthouse sto", "leuchttürme", "white", "coast", "'lighthouse'"],
)
def test_a_thread_is_found_by_any_words_of_its_messages(database: Database, lighthouse: Run, query: str) -> None:
    assert found(database, query) == [lighthouse.thread_id]


@pytest.mark.parametrize("query", ["lighthouse tides", "ighthouse", "lighthouse -stood nowhere", '" OR "', "*"])
def test_what_has_not_all_the_words_is_not_found(database: Database, lighthouse: Run, query: str) -> None:
    assert found(database, query) == []


def test_a_thread_is_found_by_the_name_of_its_file(database: Database, lighthouse: Run, tmp_path: Path) -> None:
    stored = FolderStorage(tmp_path).put([b"1,2"], limit=10)
    wanted = Save("charts/sea-level_2026.csv", "text/csv", stored)
    database.write(lambda db: attach(db, OWNER, lighthouse.thread_id, wanted))
    for query in ("level", "2026 csv", "charts"):
        assert found(database, query) == [lighthouse.thread_id]
    assert "sea-level_2026.csv" in excerpt(database, lighthouse, "level")


def test_what_was_found_is_shown_in_its_words(database: Database, lighthouse: Run) -> None:
    long = answered(database, "Go on", f"{'before ' * 300}the old harbour wall{' after' * 300}")
    shown = excerpt(database, long, "harbour")
    assert "the old harbour wall" in shown
    assert len(shown) < 200


def test_another_owners_and_deleted_threads_are_not_found(database: Database, lighthouse: Run) -> None:
    assert found(database, "lighthouse", owner="somebody") == []
    database.write(lambda db: threads.hide(db, threads.get(db, OWNER, lighthouse.thread_id)))
    assert found(database, "lighthouse") == []
    database.write(lambda db: threads.restore(db, OWNER, lighthouse.thread_id))
    assert found(database, "lighthouse") == [lighthouse.thread_id]


def test_a_message_that_was_changed_is_found_by_its_new_words_alone(database: Database) -> None:
    run = queued_run(database, text="an albatross")
    database.write(lambda db: db.execute(update(Message).where(Message.run_id == run.id).values(text="a cormorant")))
    assert found(database, "cormorant") == [run.thread_id]
    assert database.read(lambda db: search.excerpts(db, [run.thread_id], "albatross")) == {}


def test_a_huge_message_is_accepted_and_found(database: Database) -> None:
    run = queued_run(database, text="needle " + " ".join(f"straw{n}ß" for n in range(90_000)))
    assert found(database, "needle") == [run.thread_id]


def test_a_table_that_a_migration_rebuilds_is_searched_all_the_same(database: Database, engine_name: str) -> None:
    before = queued_run(database, text="an albatross")
    if engine_name == "sqlite":  # as a batch migration does it: the triggers go with the old table
        sql = database.read(lambda db: db.scalar(text("SELECT sql FROM sqlite_master WHERE name = 'messages'")))
        indexes = "SELECT sql FROM sqlite_master WHERE tbl_name = 'messages' AND type = 'index' AND sql IS NOT NULL"
        made = database.read(lambda db: db.scalars(text(indexes)).all())
        for statement in (
            sql.replace("messages", "_alembic_tmp_messages", 1),
            "INSERT INTO _alembic_tmp_messages SELECT * FROM messages",
            "DROP TABLE messages",
            "ALTER TABLE _alembic_tmp_messages RENAME TO messages",
            *made,
        ):
            execute(database, statement)
        assert found(database, "albatross") == [before.thread_id]
    schema.upgrade(database)
    after = queued_run(database, text="a cormorant")
    assert found(database, "cormorant") == [after.thread_id]
    assert schema.differences(database) == []


def test_what_was_said_before_there_was_a_search_is_found(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    schema.upgrade(database, "0003")
    rows = [
        "INSERT INTO threads (id, owner, title, metadata, turns, created_at, updated_at)"
        " VALUES ('thr_1', 'local', '', '{}', 1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)",
        "INSERT INTO runs (id, thread_id, owner, turn, kind, status, agent, input, artifact_generation, metadata,"
        " attempt, last_seq, hints, created_at) VALUES ('run_1', 'thr_1', 'local', 1, 'chat', 'queued', 'demo', 'x',"
        " true, '{}', 0, 1, 0, CURRENT_TIMESTAMP)",
        "INSERT INTO messages (id, thread_id, run_id, turn, role, text, partial, created_at)"
        " VALUES ('msg_1', 'thr_1', 'run_1', 1, 'user', 'an albatross', false, CURRENT_TIMESTAMP)",
    ]
    for row in rows:
        execute(database, row)
    schema.upgrade(database)
    try:
        assert found(database, "albatross") == ["thr_1"]
    finally:
        database.dispose()
