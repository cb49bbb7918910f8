"""What the real CLIs have said in each scenario, kept by `make recordings` to be translated again in every test run.

A recording is a file of JSON lines: what the CLI printed, as it was but for ids, times and places; what it was sent, as
`{"sent": …}`; at last its end, as `{"ended": {"status": …, "errors": …}}`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialogue import Dialogue

LISTS = ("availableCommands", "availableModels", "availableModes", "configOptions")
FOLDER = Path(__file__).with_name("recordings")


@dataclass(frozen=True)
class Recording:
    """One turn of one CLI."""

    cli: str
    scenario: str
    exchange: Sequence[tuple[bool, bytes]]
    """(whether it was sent to the CLI, the line), in order."""
    status: int
    errors: str

    @property
    def lines(self) -> list[bytes]:
        """What the CLI printed."""
        return [line for sent, line in self.exchange if not sent]

    @property
    def sent(self) -> list[bytes]:
        """What it was sent."""
        return [line for sent, line in self.exchange if sent]

    def __str__(self) -> str:
        return f"{self.cli}/{self.scenario}"


def recordings(cli: str = "*", scenario: str = "*") -> list[Recording]:
    """Those of a CLI (`claude-2.1.330`, `claude-*`) in a scenario, in the order of their names."""
    return [_read(path) for path in sorted(FOLDER.glob(f"{cli}/{scenario}.jsonl"))]


def recording(cli: str, scenario: str) -> Recording:
    """The one recording."""
    [found] = recordings(cli, scenario)
    return found


def keep(talk: Dialogue, cli: str, scenario: str, known: dict[str, str]) -> None:
    """Write down what was said, with other words for what is `known` to change from one time to the next."""
    normalise = _Normaliser(known)
    path = FOLDER / cli / f"{scenario}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for sent, line in talk.exchange:
            text = normalise(_shortened(line.decode()))
            file.write(f'{{"sent": {text}}}\n' if sent else text + "\n")
        ended = {"status": talk.status, "errors": normalise(talk.errors)[-1000:]}
        file.write(json.dumps({"ended": ended}) + "\n")


def _read(path: Path) -> Recording:
    # Not at every end of a line that Unicode knows.
    *lines, last = path.read_text().rstrip("\n").split("\n")
    ended = json.loads(last)["ended"]
    return Recording(path.parent.name, path.stem, list(map(_line, lines)), ended["status"], ended["errors"])


def _line(text: str) -> tuple[bool, bytes]:
    inside = re.fullmatch(r'\{"sent": (.*)\}', text)
    return (True, inside[1].encode()) if inside else (False, text.encode())


def _shortened(text: str) -> str:
    """Without most of what an agent lists at length, and nobody reads."""
    if not any(f'"{name}"' in text for name in LISTS):
        return text
    return json.dumps(_cut(json.loads(text)), ensure_ascii=False, separators=(",", ":"))


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _cut(each[:2] if name in LISTS and isinstance(each, list) else each) for name, each in value.items()
        }
    return [_cut(each) for each in value] if isinstance(value, list) else value


class _Normaliser:
    """Gives each id a number, in the order in which they come, and all else that changes one value for ever."""

    def __init__(self, known: dict[str, str]) -> None:
        self._known = known
        self._ids: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        for value, word in self._known.items():
            text = text.replace(value, word)
        text = re.sub(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", self._uuid, text)
        text = re.sub(r"\b(art|run|thr|ses|req)_[0-9a-z]{16,}\b", self._named, text)
        text = re.sub(r"(?<!\d)20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", "2026-01-01T00:00:00.000", text)
        text = re.sub(r"\b1[789]\d{11}\b", "1767225600000", text)
        text = re.sub(r"\b1[789]\d{8}\b", "1767225600", text)
        text = re.sub(r"(/cc-socks/|-tmp-cli-)\w+", r"\g<1>1", text)
        text = re.sub(r'"serverName":"[^"]*"', '"serverName":"host"', re.sub(r"\w+ [\d.]+; x86_64\b", "Linux", text))
        return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text)

    def _uuid(self, found: re.Match[str]) -> str:
        number = self._ids.setdefault(found[0], f"{len(self._ids) + 1:012}")
        return f"00000000-0000-4000-8000-{number}"

    def _named(self, found: re.Match[str]) -> str:
        number = self._ids.setdefault(found[0], f"{len(self._ids) + 1:012}")
        return f"{found[1]}_{number}"


def told(lines: Sequence[bytes]) -> Iterator[Any]:
    """The lines that are JSON, read."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
