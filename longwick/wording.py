"""What a terminal says in one line: an event, a size, an age; and text of others without what would steer it."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from longwick.client import Event
from longwick.text import shorten

# C0 and C1 but tab and newline, and what turns the direction of a line around: an agent's text moves no cursor.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKER = re.compile(r"ARTIFACT_CREATED:\{.*?\}\|")
_LEVELS = {"warning": "yellow", "error": "red"}
_ENDS = {"succeeded": ("✓", "green"), "failed": ("✗", "red"), "cancelled": ("■", "yellow")}


def clean(text: str) -> str:
    """`text` without what would steer the terminal."""
    return _CONTROLS.sub("", text)


def line_of(event: Event, tools: dict[str, Text]) -> Text | None:
    """The one line that tells of an event, if it is one that a line tells of; `tools` are those at work."""
    data = event.data
    match event.type:
        case "tool.started":
            name, given = clean(str(data.get("name"))), brief(data.get("input"), 60)
            tools[str(data.get("tool_call_id"))] = Text.assemble((name, "bold"), (f"({given})", "dim"))
        case "tool.completed":
            call = tools.pop(str(data.get("tool_call_id")), Text("a tool"))
            mark = ("✗ ", "red") if data.get("is_error") else ("● ", "green")
            return Text.assemble(mark, call, (f" → {brief(data.get('output'), 200)}", "dim"))
        case "artifact.saved":
            saved = data["artifact"]
            about = f"  version {saved['version']}, {size_of(saved['size'])}, {saved['id']}"
            return Text.assemble(("▪ ", "cyan"), (clean(str(saved["name"])), "bold"), (about, "dim"))
        case "notice":
            return Text(f"! {brief(data.get('message'), 500)}", _LEVELS.get(str(data.get("level")), "dim"))
        case "approval.requested":
            asked = data["approval"]
            use = f"{clean(str(asked['tool']))}({brief(asked['input'], 2000)})"
            answers = f" needs leave: `longwick allow {asked['id']}` or `longwick deny {asked['id']}`"
            return Text.assemble(("? ", "yellow"), (use, "bold"), (answers, "yellow"))
        case "approval.resolved":
            answer = data["approval"]
            words = f": {brief(answer['message'], 500)}" if answer.get("message") else ""
            return Text(f"? {clean(str(answer['tool']))} is {clean(str(answer['status']))}{words}", "dim")
        case "input.delivered":
            return Text.assemble(("> ", "cyan"), brief(data.get("text"), 500))
        case "run.attempt_lost":
            return Text("! the worker of this run was lost; the record has all that it did", "yellow")
        case "run.succeeded" | "run.failed" | "run.cancelled":
            return _end(event)
    return None


def _end(event: Event) -> Text:
    status = str(event.ends_as)
    mark, style = _ENDS[status]
    error, usage = event.data.get("error") or {}, event.data.get("usage") or {}
    facts = [f"{error.get('code')}: {brief(error.get('message'), 1000)}"] if error else []
    if (duration := event.data.get("duration_ms")) is not None:
        facts.append(f"{duration / 1000:.1f} s")
    if (tokens := sum(usage.get(name) or 0 for name in ("input_tokens", "output_tokens"))) > 0:
        facts.append(f"{tokens:,} tokens")
    if cost := event.data.get("cost_usd"):
        facts.append(f"${cost:.4f}")
    return Text.assemble((f"{mark} {status}", style), ("".join(f" · {fact}" for fact in [*facts, event.run_id]), "dim"))


def brief(value: Any, limit: int) -> str:
    """Any value in a line, shortened."""
    if isinstance(value, dict) and value:
        said = ", ".join(f"{name}={json.dumps(part, ensure_ascii=False)}" for name, part in value.items())
    else:
        said = value if isinstance(value, str) else "" if value in (None, {}) else json.dumps(value, ensure_ascii=False)
    return shorten(" ".join(clean(_MARKER.sub("", said)).split()), limit)


def size_of(size: float) -> str:
    """A number of bytes, for people."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def age_of(moment: datetime) -> str:
    """How long ago something was, for people."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, of in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < of:
            return f"{seconds} {unit}"
        seconds //= of
    return f"{seconds} d"
