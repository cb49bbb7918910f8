"""The agents of the benchmarks: programs that cost next to nothing, so that what is measured is Longwick."""

import json
import sys
from pathlib import Path

TICKS_RATE = 20
SLOW = ("2", "100")
"""Pieces a second, and seconds: as long as anything is measured that takes long."""
FLOOD_LINES = 200_000
CALLS = 200
"""Files that the agent `caller` saves."""

_FLOOD = (
    'BEGIN { for (i = 1; i <= %d; i++) printf "{\\"type\\":\\"text\\",\\"text\\":\\"%%06d \\"}\\n", i;'
    ' print "{\\"type\\":\\"result\\"}" }'
)


def write(file: Path, *, printed: Path, seconds: float, lines: int) -> None:
    """Write the agents file: streams of so many `seconds` that note in `printed` what they print, floods of `lines`."""
    ticks = str(Path(__file__).with_name("ticks.py"))
    commands = {
        "echo": ["sh", "-c", """read -r turn; echo '{"type":"text","text":"hello"}'; echo '{"type":"result"}'"""],
        "silent": ["sh", "-c", """read -r turn; echo '{"type":"text","text":"hello"}'; exec sleep 900"""],
        "ticks": [sys.executable, "-IS", ticks, str(TICKS_RATE), str(seconds)],
        "slow": [sys.executable, "-IS", ticks, *SLOW],
        "flood": ["awk", _FLOOD % lines],
        "caller": [sys.executable, "-IS", str(Path(__file__).with_name("calls.py")), str(CALLS)],
    }
    tables = [
        f'[agents.{agent}]\nadapter = "jsonl"\ncommand = {json.dumps(command)}\n'
        f"env = {{ PRINTED_FOLDER = {json.dumps(str(printed))} }}\n"
        for agent, command in commands.items()
    ]
    file.write_text("\n".join(tables))


def flood_text(lines: int) -> str:
    """The whole answer of the agent `flood`."""
    return "".join(f"{number:06d} " for number in range(1, lines + 1))
