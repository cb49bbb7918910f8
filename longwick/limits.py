"""What an owner may have: as the settings say for all, and the record for those who are an exception."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from sqlalchemy import bindparam, delete, func, select

from longwick import spending
from longwick.accounts import OwnerLimits
from longwick.backlog import IS_RUNNING
from longwick.database import Db, have_alone
from longwick.errors import Invalid
from longwick.models import Run
from longwick.settings import Settings

EXCEPTIONAL = tuple(column.name for column in OwnerLimits.__table__.columns if column.name != "owner")
SPEND = "spend_usd_per_day"


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of each; 0 is no limit."""

    running: int = 0
    queued: int = 0
    artifacts: int = 0
    artifact_bytes: int = 0
    spend_usd_per_day: float = 0

    @classmethod
    def usual(cls, settings: Settings) -> Self:
        """What holds for everybody who is no exception."""
        return cls(
            running=settings.running_per_owner,
            queued=settings.queued_per_owner,
            artifacts=settings.artifacts_per_owner,
            artifact_bytes=settings.artifact_bytes_per_owner,
            spend_usd_per_day=settings.spend_usd_per_owner_per_day,
        )

    def except_for(self, exception: OwnerLimits | None) -> Self:
        """These, with what the record has for one owner."""
        given = {name: getattr(exception, name) for name in EXCEPTIONAL} if exception else {}
        return replace(self, **{name: limit for name, limit in given.items() if limit is not None})


NO_LIMITS = Limits()

_COUNT_RUNNING = select(func.count()).where(IS_RUNNING, Run.owner == bindparam("owner"))


def of_owner(db: Db, owner: str, usual: Limits) -> Limits:
    """What this owner may have."""
    return usual.except_for(db.get(OwnerLimits, owner))


def of_owners(db: Db, owners: Iterable[str], usual: Limits) -> dict[str, Limits]:
    """What these owners may have."""
    wanted = list(owners)
    found = db.scalars(select(OwnerLimits).where(OwnerLimits.owner.in_(wanted)))
    exceptions = {exception.owner: exception for exception in found}
    return {owner: usual.except_for(exceptions.get(owner)) for owner in wanted}


def count_running(db: Db, owner: str) -> int:
    """How many runs of an owner are at work."""
    return db.scalar(_COUNT_RUNNING, {"owner": owner}) or 0


def may_start(db: Db, owner: str, usual: Limits) -> bool:
    """Whether one more run of the owner may start; until the end of the transaction, only whoever asks may start one.

    Without this lock, two who count at once would both take the last place.
    """
    limits = of_owner(db, owner, usual)
    if limits.running:
        have_alone(db, f"running/{owner}")
        if count_running(db, owner) >= limits.running:
            return False
    return not spending.is_spent(db, owner, limits.spend_usd_per_day)


def capped(db: Db, run: Run | None, usual: Limits) -> Run | None:
    """A claimed run as its worker is to see it: it may cost no more than its owner has left for the day.

    Runs that begin together are each told all that is left; what they use beyond it together, `spending.overspent`
    notices with the next beat.
    """
    if run is not None:
        left = spending.left(db, run.owner, of_owner(db, run.owner, usual).spend_usd_per_day)
        # The record goes on to say what the caller has asked for.
        db.expunge(run)
        if left is not None:
            run.max_cost_usd = min(left, run.max_cost_usd or left)
    return run


def exceptions(db: Db) -> list[OwnerLimits]:
    """The owners who are an exception, by name."""
    return list(db.scalars(select(OwnerLimits).order_by(OwnerLimits.owner)))


def make_exception(db: Db, owner: str, changed: Mapping[str, float | None]) -> OwnerLimits:
    """Give an owner limits of their own: 0 is none at all, and None the usual one again; with all of these, no row.

    Raises:
        Invalid: there is no such limit, or that can be none.
    """
    exception = db.get(OwnerLimits, owner) or OwnerLimits(owner=owner)
    for name, limit in changed.items():
        if name not in EXCEPTIONAL:
            raise Invalid(f"{name} is no limit of an owner; there are {', '.join(EXCEPTIONAL)}")
        if limit is not None and not 0 <= limit < 2**53:
            raise Invalid(f"{name}: {limit:g} can be no limit")
        setattr(exception, name, limit if limit is None or name == SPEND else int(limit))
    if any(getattr(exception, name) is not None for name in EXCEPTIONAL):
        db.add(exception)
        db.flush()
    else:
        end_exception(db, owner)
    return exception


def end_exception(db: Db, owner: str) -> None:
    """Have the usual limits hold for an owner again."""
    db.execute(delete(OwnerLimits).where(OwnerLimits.owner == owner))
