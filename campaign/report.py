"""What a campaign has come to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from stack import Json

from campaign.load import Load
from longwick.audit import Audited, Violation

HARMLESS = ("hints doubled", "pub/sub clients cut")
"""So frequent that they are around everything."""
BEFORE_SECONDS, AFTER_SECONDS = 5.0, 15.0
"""Of a run's acceptance, how far away a fault may be that has to do with what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault, and when it came."""

    at: float
    name: str


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
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    stuck: int = 0
    violations: list[str] = field(default_factory=list)
    around: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    """Of each run with which something is wrong, the faults around it: seconds from its acceptance, and the name."""
    engine: str = ""

    @classmethod
    def of(
        cls,
        load: Load,
        injected: Sequence[Injected],
        seen: Sequence[tuple[str, list[Json]]],
        audited: Audited,
        violations: Sequence[Violation],
        seed: int,
        seconds: float,
    ) -> Self:
        """What is to be told of a campaign whose record was `audited`."""
        counted = Counter(fault.name for fault in injected)
        report = cls(seed, seconds, counted, audited, load.readers, load.reconnects, load.submissions)
        for run_id, events in seen:
            seqs = [event["seq"] for event in events]
            report.doubled += len(seqs) - len(set(seqs))
            report.lost += (seqs[-1] if seqs else 1) - len(set(seqs))
            report.foreign += sum(event["run_id"] != run_id for event in events)
        report.stuck = len(load.failures)
        report.violations = [*load.failures, *map(str, violations)]
        if audited.runs != len(load.accepted):
            report.violations.append(f"{audited.runs} runs are in the record, and {len(load.accepted)} were accepted")
        for run_id, accepted_at in load.accepted.items():
            if any(run_id in words for words in report.violations):
                report.around[run_id] = [
                    (fault.at - accepted_at, fault.name)
                    for fault in injected
                    if -BEFORE_SECONDS < fault.at - accepted_at < AFTER_SECONDS
                ]
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
        wrong = [f"\n! {words}" for words in self.violations]
        for run_id, faults in self.around.items():
            told = ", ".join(f"{at:+.1f} {name}" for at, name in faults if name not in HARMLESS)
            wrong.append(f"\n? around {run_id}: {told}")
        return "\n".join([*lines, *wrong])
