"""What CLIs have said, damaged: lines lost, doubled, cut, and bytes of them changed."""

import json
import random
from collections.abc import Callable, Iterable
from typing import Any

from recordings import Recording, recordings
from replaying import Told, replay, started

from fuzz.findings import Findings
from longwick.profiles import Profile
from longwick.text import clean_json
from worker.agents import Adapter, Turn
from worker.agents.acp import Acp
from worker.agents.claude import Claude
from worker.agents.codex import Codex
from worker.agents.jsonl import JsonLines
from worker.agents.lines import TEXTS

ADAPTERS: dict[str, Callable[[Profile, Turn], Adapter]] = {
    "claude": Claude,
    "codex": Codex,
    "acp": Acp,
    "jsonl": JsonLines,
}
PIECES = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"NaN",
    b'""',
    b"[]",
    b"{}",
    b"[" * 5000,
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xff",
]
JSONL = [
    b'{"type":"text","text":"one "}',
    b'{"type":"thinking","text":"hm"}',
    b'{"type":"tool_use","id":"t1","name":"look","input":{"at":[1,2]}}',
    b'{"type":"tool_result","id":"t1","output":"seen","is_error":false}',
    b'{"type":"usage","input_tokens":1,"output_tokens":2,"cost_usd":0.1}',
    b'{"type":"error","code":"x","message":"no"}',
    b'{"type":"result","text":"one two"}',
]
MOST_TIMES = 40
"""How much more than what came in may come out: each line may bring an event or two, each with its names."""


def fuzz(seconds: float, seed: int) -> Findings:
    """Damage a recording, translate it, and hold what comes of it to the rules of the log."""
    chance = random.Random(seed)
    kept = [(adapter_of(each), each.lines, str(each)) for each in recordings()]
    kept += [("jsonl", JSONL, "jsonl")] * (len(kept) // 4)
    findings = Findings("what agents say, damaged", seed)
    while findings.going(seconds):
        name, lines, recording = chance.choice(kept)
        damaged = list(damage(chance, lines))
        findings.cases += 1
        try:
            check(replay(begun(name), damaged), sum(map(len, damaged)))
        except Exception as error:
            findings.found.append(f"{recording}: {type(error).__name__}: {error}; {damaged!r:.2000}")
    return findings


def adapter_of(kept: Recording) -> str:
    """The name of the adapter that reads a recording."""
    return "acp" if "acp" in kept.cli or "gemini" in kept.cli else kept.cli.partition("-")[0]


def begun(name: str) -> Adapter:
    """An adapter that has begun its turn."""
    return started(ADAPTERS[name], name)


def damage(chance: random.Random, lines: Iterable[bytes]) -> Iterable[bytes]:
    """The lines, some of them not as they were."""
    for line in lines:
        draw = chance.random()
        if draw < 0.05:
            continue
        if draw < 0.1:
            yield line
        if draw < 0.15:
            yield line[: chance.randrange(len(line) + 1)]
        elif draw < 0.3:
            yield flipped(chance, line)
        elif draw < 0.45:
            yield exchanged(chance, line)
        else:
            yield line


def flipped(chance: random.Random, line: bytes) -> bytes:
    """Up to five bytes of it are others."""
    new = bytearray(line)
    for _ in range(chance.randrange(1, 6) if line else 0):
        new[chance.randrange(len(new))] = chance.randrange(256)
    return bytes(new)


def exchanged(chance: random.Random, line: bytes) -> bytes:
    """One of its values is another: still JSON for the most part, and not what anybody expects."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    places = list(members(said))
    if not places:
        return line
    inside, key = chance.choice(places)
    inside[key] = "\0here\0"
    return json.dumps(said).encode().replace(b'"\\u0000here\\u0000"', chance.choice(PIECES))


def members(value: Any) -> Iterable[tuple[Any, Any]]:
    """(what holds it, its key or number) of everything inside."""
    if isinstance(value, dict | list):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from members(inside)


def check(told: Told, size: int) -> None:
    """An end at most, every block opened and closed once, nothing that the record cannot hold, and not too much."""
    assert len(told.ends) <= 1, "a second end"
    open_texts: list[object] = []
    written = 0
    for event in told.events:
        written += len(event.encoded_tail().encode("ascii"))
        assert clean_json(event.data) == event.data, f"what cannot be stored: {event}"
        assert all(isinstance(event.data[name], str) for name in TEXTS & event.data.keys()), f"no text: {event}"
        match event.type.value:
            case "message.started":
                assert open_texts == [], "a text inside of a text"
                open_texts.append(event.data["message_id"])
            case "message.delta":
                assert open_texts == [event.data["message_id"]], "a piece of no text"
            case "message.completed":
                open_texts.remove(event.data["message_id"])
    assert open_texts == [], "a text that is never closed"
    assert written <= MOST_TIMES * (size + 1000), f"{size} bytes became {written}"
