"""Log lines: JSON (or text for people), each with the run and attempt that it is about."""

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from longwick.settings import Settings, secret_values

REMOVED = "[removed]"
LOOKS = (
    r"\blw(?:k|api)_[\w-]{20,}",
    r"\bsk-[\w-]{16,}",
    r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
    r"(?<=\bbearer )[\w.~+/=-]{8,}",
    r"(?<=x-api-key)\W{1,6}[\w-]{8,}",
    r"(?<=[?&])(?:ticket|token|key|api_key|password|secret)=[^&\s\"']+",
)
"""Our tokens and keys, those of providers, and secrets where they stand in addresses and headers."""

_bound: ContextVar[Mapping[str, object]] = ContextVar("longwick_log_context", default=MappingProxyType({}))


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Put `values` (run_id, attempt, …) on every line that is logged inside."""
    token = _bound.set({**_bound.get(), **values})
    try:
        yield
    finally:
        _bound.reset(token)


class Censor:
    """Takes out of a text what must not be read in a log: the secrets that this process has, and what looks like one.

    The last line of defence: nothing of ours logs a secret on purpose, and libraries log what they like.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = [re.escape(secret) for secret in sorted(secrets, key=len, reverse=True) if secret]
        self._pattern = re.compile("|".join([*known, *LOOKS]), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        return self._pattern.sub(REMOVED, text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, so that no message can forge a second line."""

    def __init__(self, tier: str, censored: Censor) -> None:
        super().__init__()
        self.tier = tier
        self.censored = censored

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "tier": self.tier,
            "logger": record.name,
            "message": self.censored(record.getMessage()),
            **_bound.get(),
        }
        if record.exc_info:
            line["error"] = self.censored(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """For a terminal."""

    def __init__(self, tier: str, censored: Censor) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {tier}: %(message)s", "%H:%M:%S")
        self.censored = censored

    def format(self, record: logging.LogRecord) -> str:
        context = "".join(f" {name}={value}" for name, value in _bound.get().items())
        return self.censored(super().format(record)) + context

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the library
        # The lines of a traceback are meant; those of a message may be somebody's who wants to be taken for us.
        return super().formatMessage(record).replace("\n", "\\n").replace("\r", "\\r").replace("\x1b", "")


def passwords_of(settings: Settings) -> Iterator[str]:
    """The passwords that the settings hold, as they are and as addresses write them."""
    yield settings.flower_password
    for address in (settings.database_url, settings.redis_url):
        if password := urlsplit(address).password:
            yield password
            yield unquote(password)


def configure(settings: Settings, tier: str) -> None:
    """Send this process's log lines to standard error, in the settings' format, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    censored = Censor([*secret_values(), *passwords_of(settings)])
    formatter = JsonFormatter if settings.log_format == "json" else TextFormatter
    handler.setFormatter(formatter(tier, censored))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # Warnings of Python become lines like all others.
    logging.captureWarnings(True)
    for noisy in ("httpx2", "mcp", "kombu", "amqp", "alembic", "sqlalchemy.engine"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
