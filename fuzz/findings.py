"""What a part has tried and found."""

import time
from dataclasses import dataclass, field

MOST = 20
LEAST = 100
"""There are more cases than these however slow the machine is."""


@dataclass
class Findings:
    """How many cases there were, and what was wrong in some of them, in words that repeat it."""

    part: str
    seed: int
    cases: int = 0
    found: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def going(self, seconds: float) -> bool:
        """Whether there is time for another case, and reason to look for more."""
        time_is_left = time.monotonic() - self.began < seconds or self.cases <= LEAST
        return time_is_left and len(self.found) < MOST

    def row(self) -> str:
        """A line of the table."""
        took = time.monotonic() - self.began
        return f"| {self.part} | {self.cases:,} | {took:.0f} s | {self.seed} | {len(self.found) or 'none'} |"
