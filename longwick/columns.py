"""Column types that are the same on both engines."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Enum, TypeDecorator

from longwick.kinds import ApprovalStatus, ArtifactType, OnWorkerLost, Role, RunKind, RunStatus

JsonObject = dict[str, Any]


class Timestamp(TypeDecorator[datetime]):
    """A moment in UTC, aware on both engines (SQLite keeps no offset)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value and value.astimezone(UTC)


def text_enum(kind: type[StrEnum]) -> Enum:
    """An enum kept as text without a constraint, so that a new value needs no DDL on either engine."""
    return Enum(
        kind,
        native_enum=False,
        length=64,
        create_constraint=False,
        values_callable=lambda members: [member.value for member in members],
    )


COLUMN_TYPES: dict[Any, Any] = {
    datetime: Timestamp,
    JsonObject: JSON,
    **{kind: text_enum(kind) for kind in (RunStatus, RunKind, OnWorkerLost, Role, ArtifactType, ApprovalStatus)},
}
"""What a column is whose type is one of these."""
