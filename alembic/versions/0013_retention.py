"""What is removed when it is old: whose deltas are gone, which threads are going, which files are still in use.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# To remove a row, the database looks for others that name it.
NAMING = [
    ("messages", "run_id"),
    ("idempotency_keys", "run_id"),
    ("workspaces", "run_id"),
    ("workspaces", "manifest_sha256"),
    ("agent_sessions", "thread_id"),
    ("artifacts", "sha256"),
]
UNCOMPACTED = "compacted_at IS NULL AND finished_at IS NOT NULL"


def upgrade() -> None:
    op.add_column("threads", sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_threads_deleted",
        "threads",
        ["deleted_at"],
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.add_column("runs", sa.Column("compacted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("runs", sa.Column("compacted_through", sa.Integer(), server_default="0", nullable=False))
    op.create_index(
        "ix_runs_uncompacted",
        "runs",
        ["finished_at"],
        sqlite_where=sa.text(UNCOMPACTED),
        postgresql_where=sa.text(UNCOMPACTED),
    )
    op.add_column("blobs", sa.Column("used_at", sa.DateTime(timezone=True), nullable=True))
    for table, column in NAMING:
        op.create_index(f"ix_{table}_{column}", table, [column])
    op.create_table(
        "chores",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_chores"),
    )


def downgrade() -> None:
    op.drop_table("chores")
    for table, column in reversed(NAMING):
        op.drop_index(f"ix_{table}_{column}", table)
    op.drop_column("blobs", "used_at")
    op.drop_index("ix_runs_uncompacted", "runs")
    op.drop_column("runs", "compacted_through")
    op.drop_column("runs", "compacted_at")
    op.drop_index("ix_threads_deleted", "threads")
    op.drop_column("threads", "removed_at")
