"""What a campaign has come to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from stack import Json

from campaign.load import Load
from longwick import audit
from longwick.audit import Audited
from longwick.database import Database
from longwick.storage import Storage


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
        record: Database,
        storage: Storage,
        load: Load,
        injected: Counter[str],
        seen: Sequence[tuple[str, list[Json]]],
        seed: int,
        seconds: float,
    ) -> Self:
        """Hold the record, and what each reader has seen, to the promises."""
        audited = Audited()
        violations = [str(violation) for violation in audit.audit(record, storage, audited)]
        report = cls(
            seed, seconds, injected, audited, load.readers, load.reconnects, load.submissions, len(load.accepted)
        )
        for run_id, events in seen:
            violations += [str(violation) for violation in audit.differences(record, run_id, events)]
            seqs = [event["seq"] for event in events]
            report.doubled += len(seqs) - len(set(seqs))
            report.lost += (seqs[-1] if seqs else 1) - len(set(seqs))
            report.foreign += sum(event["run_id"] != run_id for event in events)
        report.stuck = len(load.failures)
        if audited.runs != len(set(load.accepted)):
            violations.append(f"{audited.runs} runs are in the record, and {len(set(load.accepted))} were accepted")
        report.violations = load.failures + violations
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
