"""Where a run and a session belong in the trace that asked for them, for whichever process goes on with it.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("runs", "agent_sessions"):
        op.add_column(table, sa.Column("traceparent", sa.String(length=55), nullable=True))


def downgrade() -> None:
    for table in ("agent_sessions", "runs"):
        op.drop_column(table, "traceparent")
