"""Times as everybody outside sees them."""

from datetime import UTC, datetime


def rfc3339(moment: datetime) -> str:
    """The moment in UTC, to the millisecond: `2026-01-31T12:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
