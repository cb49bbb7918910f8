"""The tables of what owners may have and have used, apart from those of the work itself (longwick/models.py)."""

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from longwick.kinds import RunKind
from longwick.models import Base


class OwnerLimits(Base):
    """An owner for whom not all of the settings' limits hold: null where one does, 0 for no limit."""

    __tablename__ = "owner_limits"

    owner: Mapped[str] = mapped_column(String(200), primary_key=True)
    running: Mapped[int | None]
    queued: Mapped[int | None]
    artifacts: Mapped[int | None]
    artifact_bytes: Mapped[int | None] = mapped_column(BigInteger)
    spend_usd_per_day: Mapped[float | None]


class OwnerTurn(Base):
    """When an owner last had a turn in a lane: which of all the turns there was it, counted from 1."""

    __tablename__ = "owner_turns"

    owner: Mapped[str] = mapped_column(String(200), primary_key=True)
    lane: Mapped[RunKind] = mapped_column(primary_key=True)
    turn: Mapped[int] = mapped_column(BigInteger)


class OwnerDay(Base):
    """What an owner's attempts that ended on a day have used. Kept as they end: nobody needs to add them up again."""

    __tablename__ = "owner_days"

    owner: Mapped[str] = mapped_column(String(200), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    """In UTC, like 2026-01-31."""
    runs: Mapped[int]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_usd: Mapped[float]
