"""The demo agent: a real program with canned talents and no model behind it, to try Longwick without any key.

Speaks the jsonl protocol on stdin and stdout, as any agent may. It is started by the path of this folder: as a module,
its package would be imported first, which takes ten times as long. It imports nothing but its neighbours and the
standard library, and the slow parts of that on demand, so that it starts in a blink.
"""

import json
import os
import re
import signal
import sys
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # A checker knows them by their full names, the program by its own folder.
    from worker.agents.demo import mcp_call, talents
else:
    import mcp_call
    import talents

PIECE = re.compile(r"\s*(?:\S{1,24}\s*){1,2}")
PIECE_SECONDS = 0.015


class Stopped(Exception):
    """The run was cancelled: end the turn with what was said so far."""


class BadInput(Exception):
    """A line on stdin that is no part of the protocol."""


Inbox: TypeAlias = SimpleQueue[dict[str, Any] | BadInput | mcp_call.Reply]


def main() -> int:
    """Serve one turn; the exit status."""
    # One queue for stdin, SIGINT and the MCP server: its put() may be called in a signal handler, an Event's set() not.
    inbox: Inbox = SimpleQueue()
    signal.signal(signal.SIGINT, lambda *_: inbox.put({"type": "cancel"}))
    Thread(target=_read_stdin, args=(inbox,), daemon=True).start()
    turn = Turn(inbox)
    try:
        answer(turn, turn.wait_for_request())
    except Stopped:
        pass
    except BadInput as error:
        turn.send("error", code="bad_input", message=str(error))
        return 1
    turn.finish()
    return 0


def answer(turn: "Turn", request: talents.Request) -> None:
    """The whole turn: think aloud, make the file that was asked for, talk about it."""
    plan = talents.understand(request)
    url, token = os.environ.get("LONGWICK_MCP_URL"), os.environ.get("LONGWICK_MCP_TOKEN")
    turn.think(talents.thoughts(plan, request))
    turn.say("I am Longwick's **demo agent**: my talents are canned, and there is no model behind me.")
    if request.earlier_requests:
        last = talents.short(request.earlier_requests[-1])
        turn.say(f"Earlier messages in this thread: {request.earlier_messages}. You last asked: “{last}”.")
    if plan.talent:
        content = plan.talent.make(plan.topic)
        if url and token:
            reply = turn.save(url, token, plan.file_name, content, plan.talent.media_type)
            # The words behind the marker ARTIFACT_CREATED:{json}| are for people.
            turn.say(f"It was **not** saved: {reply.text}" if reply.failed else reply.text.rpartition("|")[2])
        else:
            turn.say("This run has no session with the MCP server, so nothing was saved.")
        shown = "\n".join(content.splitlines())
        turn.say(f"Here is **{plan.file_name}**:\n\n```{plan.talent.ending}\n{shown}\n```")
    elif not plan.recalls:
        turn.say(f"You wrote: “{talents.short(request.text)}”. I have no thoughts on that, but I make small files.")
        turn.say(talents.MENU)
    elif not request.earlier_requests:
        turn.say("You have asked me nothing before: this thread begins here.")
    if plan.seconds:
        _count(turn, plan.seconds)
    turn.say("That is all I can do.")
    turn.mention_added()


class Turn:
    """One turn as seen from the agent: all that it sends, and all that may arrive meanwhile."""

    def __init__(self, inbox: Inbox) -> None:
        self.inbox = inbox
        self.blocks: list[str] = [""]
        self.added: list[str] = []
        self.words_read = 0

    def send(self, kind: str, **fields: object) -> None:
        """Write one line of the protocol, in ASCII: the locale decides nothing."""
        sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
        sys.stdout.flush()

    def wait_for_request(self) -> talents.Request:
        """The first line, however long it takes: who started us decides when to give it."""
        message = self.inbox.get()
        self._take(message)
        if not self.added or not isinstance(message, dict):
            raise BadInput("the first line must be of type user")
        try:
            history = [(str(entry["role"]), str(entry["text"])) for entry in message.get("history") or []]
        except (KeyError, TypeError) as error:
            raise BadInput("history must be a list of {role, text}") from error
        text = self.added.pop()
        self.words_read = sum(len(said.split()) for said in (text, *(said for _, said in history)))
        return talents.Request(text, len(history), [said for role, said in history if role == "user"])

    def think(self, text: str) -> None:
        """Stream a thought."""
        for piece in PIECE.findall(text):
            self.send("thinking", text=piece)
            self._wait(monotonic() + PIECE_SECONDS)

    def say(self, text: str, *, glue: str = "\n\n", seconds: float | None = None) -> None:
        """Stream a part of the answer, by default a paragraph, evenly over `seconds` where they are given."""
        pieces = PIECE.findall(glue + text if self.blocks[-1] else text)
        pause = PIECE_SECONDS if seconds is None else seconds / len(pieces)
        start = monotonic()
        for number, piece in enumerate(pieces, 1):
            self.blocks[-1] += piece
            self.send("text", text=piece)
            self._wait(start + number * pause)

    def save(self, url: str, token: str, name: str, content: str, media_type: str) -> mcp_call.Reply:
        """Call save_artifact on the MCP server; a failure is a reply too."""
        call_id = f"toolu_{os.urandom(12).hex()}"
        arguments = {"name": name, "content": content, "media_type": media_type}
        self.blocks.append("")
        self.send("tool_use", id=call_id, name="mcp__longwick__save_artifact", input=arguments)
        reply = mcp_call.Reply("stopped before the MCP server answered", failed=True)

        def call() -> None:
            self.inbox.put(mcp_call.save_artifact(url, token, call_id, arguments))

        # In a thread of its own, so that a cancel is heard while the server is silent.
        Thread(target=call, daemon=True).start()
        too_late = mcp_call.Reply("the MCP server did not answer in time", failed=True)
        try:
            reply = self._wait(monotonic() + mcp_call.SAVE_SECONDS) or too_late
        finally:
            self.send("tool_result", id=call_id, output=reply.text, is_error=reply.failed)
        return reply

    def mention_added(self) -> None:
        """Say what the user added while the answer was on its way."""
        while self.added:
            self.say(f"> Meanwhile you added: “{talents.short(self.added.pop(0))}”. I heard it.")

    def finish(self) -> None:
        """End the turn with all that was said."""
        text = "\n\n".join(filter(None, self.blocks))
        # Words: without a model there are no tokens to count.
        self.send("usage", input_tokens=self.words_read, output_tokens=len(text.split()), cost_usd=0)
        self.send("result", text=text)

    def _wait(self, until: float) -> mcp_call.Reply | None:
        """Let time pass and take what comes; only a reply of the MCP server ends it early."""
        while True:
            try:
                message = self.inbox.get(timeout=max(0.0, until - monotonic()))
            except Empty:
                return None
            if isinstance(message, mcp_call.Reply):
                return message
            self._take(message)

    def _take(self, message: dict[str, Any] | BadInput | mcp_call.Reply) -> None:
        if isinstance(message, BadInput):
            raise message
        if isinstance(message, dict) and message["type"] == "cancel":
            raise Stopped
        if isinstance(message, dict) and message["type"] == "user":
            self.added.append(message["text"])


def _read_stdin(inbox: Inbox) -> None:
    # Not sys.stdin: Python aborts at exit when a thread still holds the lock of that one.
    with open(0, "rb", closefd=False) as stdin:
        for line in filter(bytes.strip, stdin):
            inbox.put(_parse(line))
    # Matters only to a turn without a request; one that was piped in by hand is served to its end.
    inbox.put({"type": "end"})


def _parse(line: bytes) -> dict[str, Any] | BadInput:
    try:
        message = json.loads(line)
    except ValueError as error:
        return BadInput(f"not JSON: {error}")
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return BadInput("each line must be a JSON object with a type")
    if message["type"] == "user" and not isinstance(message.get("text"), str):
        return BadInput("a user line must have a text")
    return message


def _count(turn: Turn, seconds: float) -> None:
    """Fill the time with a line a second, so that the answer never stands still."""
    lines = max(1, round(seconds))
    turn.say("You want me slow, so I count:")
    for line in range(1, lines + 1):
        said = f"- second {line * seconds / lines:g} of {seconds:g}"
        turn.say(said, glue="\n\n" if line == 1 else "\n", seconds=seconds / lines)
        turn.mention_added()


if __name__ == "__main__":
    sys.exit(main())
