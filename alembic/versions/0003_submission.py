"""What a submission may ask for: to be repeatable, to stop at a cost, to be retried; and threads that are deleted.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_idempotency_keys_run_id"),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    # Added, not rebuilt: the code before this one goes on writing these tables meanwhile, and knows no such columns.
    op.add_column("runs", sa.Column("max_cost_usd", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("on_worker_lost", sa.String(length=64), nullable=False, server_default="fail"))
    op.add_column("threads", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("threads", "deleted_at")
    op.drop_column("runs", "on_worker_lost")
    op.drop_column("runs", "max_cost_usd")
    op.drop_table("idempotency_keys")
