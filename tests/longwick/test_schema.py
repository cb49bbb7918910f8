import shutil
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from processes import Launch
from sqlalchemy import Column, MetaData, Table, inspect, select, text, update

from longwick import schema
from longwick.columns import text_enum
from longwick.database import Database, Db, utc_now
from longwick.errors import Unavailable
from longwick.kinds import ArtifactType
from longwick.models import Artifact, Blob, Thread

ROOT = Path(__file__).parents[2]
MIGRATE = "import sys; from longwick import database, schema; schema.upgrade(database.Database(sys.argv[1]))"


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    yield database
    database.dispose()


def statement(database: Database, sql: str) -> None:
    database.write(lambda db: db.execute(text(sql)))


def shape(database: Database) -> dict[str, list[str]]:
    """Every table with its columns, keys and indexes, as the engine tells it."""
    seen = inspect(database.engine)
    return {
        table: [
            *(str(column) for column in seen.get_columns(table)),
            *(str(key) for key in (seen.get_pk_constraint(table), seen.get_foreign_keys(table))),
            *(f"{index['name']} {index['column_names']} {index['unique']}" for index in seen.get_indexes(table)),
        ]
        for table in seen.get_table_names()
    }


def test_a_migrated_database_is_what_the_models_say(database: Database) -> None:
    assert schema.differences(database) == []
    assert schema.current(database) == schema.newest()


def test_a_difference_is_seen(database: Database) -> None:
    statement(database, "ALTER TABLE threads ADD COLUMN stray TEXT")
    [difference] = schema.differences(database)
    assert "remove_column" in str(difference)


def test_tables_that_no_model_knows_are_left_alone(database: Database, engine_name: str) -> None:
    if engine_name == "sqlite":  # which makes five more tables for it
        statement(database, "CREATE VIRTUAL TABLE run_search USING fts5(text)")
    else:
        statement(database, "CREATE TABLE run_search (words tsvector)")
        statement(database, "CREATE INDEX run_search_words ON run_search USING gin (words)")
    assert schema.differences(database) == []
    schema.upgrade(database)
    assert "run_search" in inspect(database.engine).get_table_names()


def test_a_new_enum_value_needs_no_ddl(database: Database) -> None:
    class LaterType(StrEnum):
        UPLOAD = "upload"
        GENERATED_FILE = "generated_file"
        ADDED = "a_kind_of_artifact_that_nobody_had_thought_of"

    def insert(db: Db) -> None:
        now = utc_now()
        db.add(Thread(id="thr_1", owner="local", title="", extra={}, turns=0, created_at=now, updated_at=now))
        db.add(Blob(sha256="0" * 64, size=1, created_at=now))
        db.flush()
        artifact = {"thread_id": "thr_1", "name": "a.txt", "media_type": "text/plain", "size": 1, "sha256": "0" * 64}
        db.add(Artifact(id="art_1", type=ArtifactType.GENERATED_FILE, version=1, created_at=now, **artifact))

    database.write(insert)
    artifacts = Table("artifacts", MetaData(), Column("type", text_enum(LaterType)))
    stored = select(artifacts.c.type)
    assert database.read(lambda db: db.scalars(stored).all()) == [LaterType.GENERATED_FILE]

    database.write(lambda db: db.execute(update(artifacts).values(type=LaterType.ADDED)))
    assert database.read(lambda db: db.scalars(stored).all()) == [LaterType.ADDED]


def test_f46_three_processes_that_migrate_at_once_all_succeed(
    empty: Database, empty_database_url: str, launch: Launch
) -> None:
    migrations = [launch([sys.executable, "-c", MIGRATE, empty_database_url]) for _ in range(3)]
    assert [(process.wait(), process.output) for process in migrations] == [(0, "")] * 3
    assert schema.current(empty) == schema.newest()
    assert schema.differences(empty) == []


@pytest.mark.parametrize("engine_name", ["postgresql"], indirect=True)
def test_a_migration_gives_way_to_whoever_holds_what_it_needs(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while it waits for a table waits behind it; a back-up holds all tables for as long as it takes."""
    revisions = [script.revision for script in ScriptDirectory(str(schema.migrations())).walk_revisions()]
    schema.upgrade(empty, revisions[1])
    monkeypatch.setattr(schema, "TRIES", 1)
    with empty.engine.connect() as other:
        other.execute(text("SET idle_in_transaction_session_timeout = 0"))
        for table in inspect(other).get_table_names():
            other.execute(text(f"LOCK TABLE {table} IN ACCESS SHARE MODE"))
        with pytest.raises(Unavailable, match="migrate later"):
            schema.upgrade(empty)
        other.rollback()
    schema.upgrade(empty)
    assert schema.current(empty) == schema.newest()


def test_f47_the_code_before_each_migration_goes_on_with_the_schema_after_it(empty: Database) -> None:
    """What that code writes are the columns that it knows; whatever was added since must do without it."""
    scripts = ScriptDirectory(str(schema.migrations())).walk_revisions()
    revisions = [script.revision for script in scripts][::-1]
    known: dict[str, set[str]] = {}
    for revision in revisions:
        schema.upgrade(empty, revision)
        there = inspect(empty.engine)
        tables = {
            table: {column["name"]: column for column in there.get_columns(table)} for table in there.get_table_names()
        }
        for table, columns in known.items():
            assert columns <= tables[table].keys(), f"{revision} takes columns away from {table}"
            for name in tables[table].keys() - columns:
                column = tables[table][name]
                assert column["nullable"] or column["default"] is not None, f"{revision} wants {table}.{name} of all"
        known = {table: set(columns) for table, columns in tables.items()}
    assert len(revisions) > 2


def test_a_second_upgrade_changes_nothing(database: Database) -> None:
    before = shape(database)
    schema.upgrade(database)
    assert shape(database) == before


def test_the_checkpoint_of_generated_files_changes_only_the_revision(empty: Database) -> None:
    assert schema.current(empty) is None
    schema.upgrade(empty, "0001")
    before = shape(empty)
    assert schema.current(empty) == "0001"
    schema.upgrade(empty, "0002")
    assert schema.current(empty) == "0002"
    assert shape(empty) == before


def test_alembics_own_command_shows_the_revision(database: Database, database_url: str, launch: Launch) -> None:
    command = launch(
        [sys.executable, "-m", "alembic", "current"], env={"LONGWICK_DATABASE_URL": database_url}, cwd=ROOT
    )
    assert command.wait() == 0, command.output
    assert f"{schema.newest()} (head)" in command.output


def test_a_migration_that_fails_leaves_nothing_behind(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = Path(shutil.copytree(schema.migrations(), tmp_path / "migrations"))
    (scripts / "versions" / "9999_broken.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '9999', {schema.newest()!r}\n"
        "def upgrade():\n"
        "    op.create_table('half', sa.Column('id', sa.Integer))\n"
        "    op.execute('INSERT INTO no_such_table VALUES (1)')\n"
    )
    newest = schema.newest()
    schema.upgrade(empty)
    monkeypatch.setattr(schema, "migrations", lambda: scripts)
    with pytest.raises(Exception, match="no_such_table"):
        schema.upgrade(empty)
    monkeypatch.undo()
    assert schema.current(empty) == newest
    assert "half" not in inspect(empty.engine).get_table_names()
