"""A key that only those have who can read the record, for sealing what is told over Redis.

Revision ID: 0011
Revises: 0009
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
    op.bulk_insert(table, [{"name": "live_copies", "value": secrets.token_hex(32)}])


def downgrade() -> None:
    op.drop_table("secrets")
