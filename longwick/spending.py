"""What an owner's runs use in a day, in UTC: in attempts that are over, and up to the last beat of those at work.

What an attempt has cost counts on the day that it ends; tokens count where their run does.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, case, func, select

from longwick.accounts import OwnerDay, OwnerLimits
from longwick.backlog import IS_RUNNING
from longwick.database import Db, insertion, record_now
from longwick.errors import TooMany
from longwick.models import Lease, Run

MOST_TOKENS = 2**40


@dataclass(frozen=True, slots=True)
class Spent:
    """What was used on a day."""

    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0


_ON_DAY = select(OwnerDay).where(OwnerDay.owner == bindparam("owner"), OwnerDay.day == bindparam("day"))
_COSTS = select(Run.cost_usd, Lease.cost_usd).outerjoin(Lease, Lease.run_id == Run.id).where(Run.id == bindparam("run"))
_MORE = Lease.cost_usd - func.coalesce(Run.cost_usd, 0.0)
_AT_WORK = (
    select(func.sum(case((_MORE > 0, _MORE), else_=0.0)))
    .join(Run, Run.id == Lease.run_id)
    .where(IS_RUNNING, Run.owner == bindparam("owner"), Run.attempt == Lease.attempt)
)


def today(db: Db, owner: str) -> Spent:
    """What an owner has used today."""
    over = db.scalar(_ON_DAY, {"owner": owner, "day": _day_of(record_now(db))})
    at_work = db.scalar(_AT_WORK, {"owner": owner}) or 0.0
    if over is None:
        return Spent(at_work)
    return Spent(over.cost_usd + at_work, over.input_tokens, over.output_tokens)


def left(db: Db, owner: str, limit: float) -> float | None:
    """How much an owner may still spend today; None where nothing limits it."""
    return max(0.0, limit - today(db, owner).cost_usd) if limit else None


def is_spent(db: Db, owner: str, limit: float) -> bool:
    """Whether an owner has used all that may be spent in a day."""
    return left(db, owner, limit) == 0


def check(db: Db, owner: str, limit: float) -> None:
    """Make sure that the owner has not used all that may be spent today.

    Raises:
        TooMany: it is used up (`budget_exceeded`); says when it begins anew.
    """
    if is_spent(db, owner, limit):
        now = record_now(db)
        raise TooMany(
            f"your runs have used the {limit:g} USD that they may in a day; the next day begins at 00:00 UTC",
            code="budget_exceeded",
            retry_after=(tomorrow(now) - now).total_seconds(),
        )


def overspent(db: Db, run_ids: Collection[str], usual_limit: float) -> set[str]:
    """Of these runs, those whose owner has used up the day."""
    rows = db.execute(
        select(Run.id, Run.owner, OwnerLimits.spend_usd_per_day)
        .outerjoin(OwnerLimits, OwnerLimits.owner == Run.owner)
        .where(Run.id.in_(run_ids))
    )
    owners = {run_id: (owner, usual_limit if own is None else own) for run_id, owner, own in rows}
    spent = {owner for owner in set(owners.values()) if is_spent(db, *owner)}
    return {run_id for run_id, owner in owners.items() if owner in spent}


def so_far(db: Db, run_id: str) -> tuple[float | None, float | None]:
    """What a run had cost when its last attempt ended, and what it has by now, in USD; None where nobody has told."""
    noted, told = db.execute(_COSTS, {"run": run_id}).one_or_none() or (None, None)
    # What an agent tells may begin anew with each attempt.
    return noted, max((cost for cost in (noted, told) if cost is not None), default=None)


def note(db: Db, run: Run, noted: float | None) -> None:
    """Add what an attempt has used to its owner's day; part of the transaction that ends it, at its end.

    `noted` is the cost of the run when its attempt before that ended, in USD. The row is the owner's, and whoever else
    ends an attempt of theirs waits for it until COMMIT.
    """
    cost = max(0.0, (run.cost_usd or 0.0) - (noted or 0.0))
    tokens = {f"{way}_tokens": _tokens(run.usage, f"{way}_tokens") for way in ("input", "output")}
    if not cost and not any(tokens.values()):
        return
    used = {"runs": int(run.status.terminal), **tokens, "cost_usd": cost}
    new = insertion(db, OwnerDay)
    more = {name: getattr(OwnerDay, name) + new.excluded[name] for name in used}
    named = {"owner": run.owner, "day": _day_of(record_now(db))}
    db.execute(new.values(**named, **used).on_conflict_do_update(index_elements=list(named), set_=more))


def tomorrow(now: datetime) -> datetime:
    """When the day after begins, in UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _day_of(now: datetime) -> str:
    return now.astimezone(UTC).date().isoformat()


def _tokens(usage: Mapping[str, Any] | None, name: str) -> int:
    """A count, if the agent has said one: it may say anything."""
    count = (usage or {}).get(name)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < MOST_TOKENS else 0
