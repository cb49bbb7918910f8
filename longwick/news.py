"""What is announced to the worker of a run: that the record has something for it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class News:
    """Somebody wants a running run cancelled, has decided what it asked, or has more to say to it."""

    run_id: str
