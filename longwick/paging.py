"""Lists a page at a time, by a cursor that is the id of the last thing seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from longwick.database import Db

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list, and whether there is more of it."""

    data: Sequence[T]
    has_more: bool


def page(
    db: Db, wanted: Select[T], key: InstrumentedAttribute[Any], limit: int, after: str | None, *, newest: bool
) -> Page[T]:
    """At most `limit` rows past the cursor, by `key`, newest first or oldest first."""
    if after is not None:
        wanted = wanted.where(key < after if newest else key > after)
    rows = db.scalars(wanted.order_by(key.desc() if newest else key).limit(limit + 1)).all()
    return Page(rows[:limit], len(rows) > limit)
