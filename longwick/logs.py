"""Log lines: JSON (or text for people), each with the run and attempt that it is about."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

from longwick.settings import Settings

_bound: ContextVar[Mapping[str, object]] = ContextVar("longwick_log_context", default=MappingProxyType({}))


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Put `values` (run_id, attempt, …) on every line that is logged inside."""
    token = _bound.set({**_bound.get(), **values})
    try:
        yield
    finally:
        _bound.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, so that no message can forge a second line."""

    def __init__(self, tier: str) -> None:
        super().__init__()
        self.tier = tier

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "tier": self.tier,
            "logger": record.name,
            "message": record.getMessage(),
            **_bound.get(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """For a terminal."""

    def __init__(self, tier: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {tier}: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        context = "".join(f" {name}={value}" for name, value in _bound.get().items())
        return super().format(record) + context


def configure(settings: Settings, tier: str) -> None:
    """Send this process's log lines to standard error, in the settings' format, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(tier) if settings.log_format == "json" else TextFormatter(tier))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # Warnings of Python become lines like all others.
    logging.captureWarnings(True)
    for noisy in ("httpx2", "mcp", "kombu", "amqp", "alembic", "sqlalchemy.engine"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
