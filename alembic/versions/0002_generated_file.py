"""Files that agents make: the artifact type `generated_file` joins.

A checkpoint that changes nothing: enums are kept as text without a constraint, so a new value needs no DDL on either
engine. It stands here so that `alembic current` shows whether a database has met code that writes the new value.

Revision ID: 0002
Revises: 0001
"""

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
