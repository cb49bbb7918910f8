"""What a campaign has come to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from stack import Json

from campaign.load import Load
from longwick.audit import Audited, Violation


@dataclass
class Report:
    """Figures, and everything that is not as it was promised."""

    seed: int
    seconds: float
    injected: Counter[str]
    audited: Audited
    readers: int
    reconnects: int
    submissions: int
    accepted: int
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    stuck: int = 0
    violations: list[str] = field(default_factory=list)
    engine: str = ""

    @classmethod
    def of(
        cls,
        load: Load,
        injected: Counter[str],
        seen: Sequence[tuple[str, list[Json]]],
        audited: Audited,
        violations: Sequence[Violation],
        seed: int,
        seconds: float,
    ) -> Self:
        """What is to be told of a campaign whose record was `audited`."""
        report = cls(
            seed, seconds, injected, audited, load.readers, load.reconnects, load.submissions, len(load.accepted)
        )
        for run_id, events in seen:
            seqs = [event["seq"] for event in events]
            report.doubled += len(seqs) - len(set(seqs))
            report.lost += (seqs[-1] if seqs else 1) - len(set(seqs))
            report.foreign += sum(event["run_id"] != run_id for event in events)
        report.stuck = len(load.failures)
        report.violations = [*load.failures, *map(str, violations)]
        accepted = len(set(load.accepted))
        if audited.runs != accepted:
            report.violations.append(f"{audited.runs} runs are in the record, and {accepted} were accepted")
        return report

    def table(self) -> str:
        """The figures as Markdown, and what is wrong, if anything is."""
        rows = {
            "seed": self.seed,
            "seconds": round(self.seconds),
            "runs": self.audited.runs,
            "submissions, with those that had to be repeated": self.submissions,
            "events": self.audited.events,
            "files": self.audited.files,
            "readers": self.readers,
            "reconnects": self.reconnects,
            "**faults**": self.injected.total(),
            **{f"- {name}": number for name, number in self.injected.most_common()},
            "events lost": self.lost,
            "events doubled": self.doubled,
            "events of other runs": self.foreign,
            "runs or readers stuck": self.stuck,
            "promises broken": len(self.violations),
        }
        head = [f"|  | {self.engine} |", "| --- | --- |"]
        lines = head + [f"| {name} | {value:,} |" for name, value in rows.items()]
        return "\n".join([*lines, *(f"\n! {words}" for words in self.violations)])
