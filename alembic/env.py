"""Runs the migrations on the engine it is given, or on the one that the settings name."""

from alembic import context
from sqlalchemy import Engine

from longwick.database import Database
from longwick.models import Base
from longwick.schema import known_table
from longwick.settings import Settings


def run() -> None:
    engine: Engine = context.config.attributes.get("engine") or Database(Settings.from_environ().database).engine
    with engine.begin() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_name=known_table,
            render_as_batch=True,
            compare_type=True,
        )
        context.run_migrations()


run()
