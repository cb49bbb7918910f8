"""What the worker needs of a CLI at work, whatever kind of process it is."""

from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Overlong:
    """A line that was longer than `LINE_BYTES`, and dropped; its size in bytes."""

    size: int


class Cli(Protocol):
    """A CLI at work on one turn, whether the process is its own or serves others, too."""

    ended: bool
    heard_at: float
    returncode: int | None

    @property
    def excess(self) -> str | None:
        """What it has used more of than it may, as the code of its run's end; it was killed for that."""
        ...

    def poll(self, seconds: float) -> list[bytes | Overlong]: ...
    def write(self, data: bytes) -> None: ...
    def close_input(self) -> None: ...
    def interrupt(self) -> None: ...
    def kill(self) -> None: ...
    @property
    def stderr_tail(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
