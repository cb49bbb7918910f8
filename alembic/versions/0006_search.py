"""Full-text search; what was read of a thread; and which run another one follows, where a thread has branches.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# To the letter what longwick/search.py asks for.
WORDS = "to_tsvector('simple', regexp_replace(left({}, 100000), '[!-/:-@\\[-`{{-~]+', ' ', 'g'))"


def upgrade() -> None:
    op.add_column("threads", sa.Column("read_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_threads_owner_updated_at", "threads", ["owner", "updated_at"])
    op.add_column("runs", sa.Column("follows", sa.String(length=40), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE INDEX ix_search_messages ON messages USING gin ({WORDS.format('text')})")
        op.execute(f"CREATE INDEX ix_search_artifacts ON artifacts USING gin ({WORDS.format('name')})")
        return
    op.execute(
        "CREATE TABLE search_entries (id INTEGER PRIMARY KEY, source VARCHAR(40) NOT NULL UNIQUE,"
        " thread_id VARCHAR(40) NOT NULL, body TEXT NOT NULL)"
    )
    op.execute("CREATE INDEX ix_search_entries_thread_id ON search_entries (thread_id)")
    op.execute(
        "CREATE VIRTUAL TABLE search USING fts5(body, content='search_entries', content_rowid='id',"
        " tokenize='unicode61 remove_diacritics 2')"
    )
    op.execute(
        "INSERT INTO search_entries (source, thread_id, body) SELECT id, thread_id, text FROM messages ORDER BY id"
    )
    op.execute(
        "INSERT INTO search_entries (source, thread_id, body) SELECT id, thread_id, name FROM artifacts ORDER BY id"
    )
    op.execute("INSERT INTO search (search) VALUES ('rebuild')")
    # The triggers come from longwick/search.py, after every migration.


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX ix_search_artifacts")
        op.execute("DROP INDEX ix_search_messages")
    else:
        for name in ("said", "said_otherwise", "unsaid", "saved", "unsaved", "indexed", "reindexed", "unindexed"):
            op.execute(f"DROP TRIGGER IF EXISTS search_{name}")
        op.execute("DROP TABLE search")
        op.execute("DROP TABLE search_entries")
    op.drop_column("runs", "follows")
    op.drop_index("ix_threads_owner_updated_at", "threads")
    op.drop_column("threads", "read_at")
