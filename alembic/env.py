"""Runs the migrations on the engine it is given, or on the one that the settings name."""

from typing import Literal

import sqlalchemy as sa
from alembic import context
from sqlalchemy import Engine

from longwick import search
from longwick.columns import Timestamp
from longwick.database import Database, unhurried
from longwick.schema import METADATA, known_table
from longwick.settings import Settings


def plain_type(kind: str, item: object, autogen_context: object) -> str | Literal[False]:
    """Writes our own types into new migrations as what the database sees, so that old migrations need no old code."""
    if kind == "type" and isinstance(item, Timestamp):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, sa.Enum):
        return f"sa.String(length={item.length})"
    return False


def run() -> None:
    engine: Engine = context.config.attributes.get("engine") or Database(Settings.from_environ().database).engine
    with engine.begin() as connection, unhurried(connection):
        if connection.dialect.name == "postgresql":
            # A migration takes as long as it takes; but all who come while it waits for a table wait behind it.
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            include_name=known_table,
            render_as_batch=True,
            render_item=plain_type,
            compare_type=True,
        )
        context.run_migrations()
        search.attach(connection)


run()
