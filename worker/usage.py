"""What a provider says that an answer has used, read on the side while the answer passes."""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

Tokens = dict[str, int]

MOST_BYTES = 32 * 2**20
"""A line, or an answer that is no stream, of more is not read."""
BYTES_OF_TOKEN = 4
BYTES_OF_STREAMED_TOKEN = 128
"""A guess, with all that goes around it in an event."""
MOST_GUESSED = 200_000
"""Of input: a picture has far more bytes than it is tokens."""
NAMES = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
"""Chat Completions calls them otherwise; both count among the first what was read from a cache."""
DETAILS = {"cached_tokens": "cache_read_input_tokens", "reasoning_tokens": "reasoning_output_tokens"}
SUMS = {"total_tokens"}


class UsageReader:
    """One answer's worth of it: `tell` gets what has come to be used since it was last told.

    `asked` is how many bytes the request had.
    """

    def __init__(self, tell: Callable[[Tokens], None], *, streamed: bool, asked: int) -> None:
        self._tell = tell
        self._streamed = streamed
        self._asked = asked
        self._passed = 0
        self._whole = False
        self._rest = bytearray()
        self._overlong = False
        self._told: Tokens = {}

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the answer."""
        self._passed += len(chunk)
        if self._streamed and b"\n" in chunk:
            first, *others = chunk.split(b"\n")
            self._keep(first)
            for line in others:
                self._end_line()
                self._keep(line)
        else:
            self._keep(chunk)

    def end(self) -> None:
        """The answer is whole."""
        self._end_line()
        self._whole = True

    def break_off(self) -> None:
        """Nothing more comes. Of an answer that is not whole, what its provider had no time to tell is guessed."""
        self._end_line()
        if self._whole:
            return
        passed = self._passed // (BYTES_OF_STREAMED_TOKEN if self._streamed else BYTES_OF_TOKEN)
        told = {"input_tokens": min(self._asked // BYTES_OF_TOKEN, MOST_GUESSED), "output_tokens": 0, **self._told}
        self._take({**told, "output_tokens": max(told["output_tokens"], passed)})

    def _keep(self, part: bytes) -> None:
        if len(self._rest) + len(part) > MOST_BYTES:
            self._overlong = True
            self._rest.clear()
        elif not self._overlong:
            self._rest += part

    def _end_line(self) -> None:
        if b'"usage"' in self._rest:
            self._read(bytes(self._rest).removeprefix(b"data:"))
        self._rest.clear()
        self._overlong = False

    def _read(self, data: bytes) -> None:
        try:
            body = json.loads(data)
        except ValueError:
            return
        for usage in _usages(body):
            self._take({**self._told, **_tokens(usage)})
            # Only Anthropic tells of a message that has just begun.
            self._whole = self._whole or "message" not in body

    def _take(self, now: Tokens) -> None:
        more = {name: count - self._told.get(name, 0) for name, count in now.items()}
        self._told = now
        self._tell(more)


def _usages(body: Any) -> Iterator[dict[str, Any]]:
    """Where the APIs have it: beside the message, in it, or in the response."""
    if isinstance(body, dict):
        for holder in (body, body.get("message"), body.get("response")):
            usage = holder.get("usage") if isinstance(holder, dict) else None
            if isinstance(usage, dict):
                yield usage


def _tokens(usage: dict[str, Any]) -> Tokens:
    found: Tokens = {}
    for name, value in usage.items():
        if isinstance(value, dict) and name.endswith("_details"):
            found |= {DETAILS[each]: count for each, count in value.items() if each in DETAILS and _is_count(count)}
        elif name.endswith("_tokens") and name not in SUMS and _is_count(value):
            found[NAMES.get(name, name)] = value
    return found


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
