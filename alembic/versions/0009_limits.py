"""What owners may have and have used, and the indexes by which that is counted.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_runs_queued": (["kind", "owner", "id"], "status = 'queued'"),
    "ix_runs_hinted": (["hinted_at"], "status = 'queued' AND hinted_at IS NOT NULL"),
    "ix_runs_running": (["owner"], "status = 'running'"),
}


def upgrade() -> None:
    op.create_table(
        "owner_limits",
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("running", sa.Integer(), nullable=True),
        sa.Column("queued", sa.Integer(), nullable=True),
        sa.Column("artifacts", sa.Integer(), nullable=True),
        sa.Column("artifact_bytes", sa.BigInteger(), nullable=True),
        sa.Column("spend_usd_per_day", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("owner", name="pk_owner_limits"),
    )
    op.create_table(
        "owner_days",
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "day", name="pk_owner_days"),
    )
    op.create_table(
        "owner_turns",
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("lane", sa.String(length=64), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "lane", name="pk_owner_turns"),
    )
    op.add_column("leases", sa.Column("cost_usd", sa.Double(), nullable=True))
    for name, (columns, where) in INDEXES.items():
        op.create_index(name, "runs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "runs")
    op.drop_column("leases", "cost_usd")
    op.drop_table("owner_turns")
    op.drop_table("owner_days")
    op.drop_table("owner_limits")
