"""What a model of the tests' own answers: a small language in the prompt, the same for every provider.

A prompt is a list of steps, separated by `;`:

    say N GAP             N words `w0 w1 …`, GAP seconds apart (0 where it is left out)
    text SOME WORDS       these words, at once
    think N GAP           as `say`, as a thought
    big BYTES             one text of that size, in one piece
    save NAME             calls the tool `…save_artifact` with that name
    tool NAME {JSON}      calls any tool, by its name or the end of it
    two NAME {J} {J}      calls it twice in one answer
    history | images | tools | system | model
                          says, as JSON, what the request holds: the earlier messages, the images with their bytes, …
    usage IN OUT          says that the answer has used so many tokens
    wait SECONDS          is silent; as the first step, before the answer begins
    until FILE            is silent until that file exists, at most 60 s
    fail STATUS [TIMES]   is refused with that status, TIMES times (for ever where it is left out), then goes on
    cut | stall           the connection breaks; it stays open, silent
    refuse | limit        ends as a refusal; ends at the limit of tokens

A call ends an answer; the request that brings its result gets the steps that follow it. What was said of an answer that
broke off is not said again. Any other prompt is answered with itself.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from waiting import POLL_SECONDS

Json = dict[str, Any]

SYNTHETIC = (
    "<system-reminder>",
    "<environment_context>",
    "<command-",
    "<local-command",
    "<session_context>",
    "<permissions",
    "<user_instructions>",
    "<turn_aborted>",
    "[Request interrupted",
    "(This turn was interrupted by the system",
    "[SYSTEM NOTIFICATION",
    "Caveat:",
    "Output token limit hit",
    "Resume directly",
    "Continue from where you left off",
    "[Your previous response",
    "Your response above was stopped",
    "# AGENTS.md",
    "(This turn was interrupted by the system",
    "This is the Gemini CLI.",
)
"""How texts begin that stand in a user's name and come from a CLI."""

CONTINUING = "(This turn was interrupted by the system"
RETOLD = re.compile(r"<(user|assistant|tool)>\n(.*?)\n</\1>", re.DOTALL)
"""The messages of a turn that is to go on, where an agent has no place for them but its prompt."""
DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Text:
    """A piece of the answer; `block` tells the steps of an answer apart."""

    block: int
    text: str


@dataclass(frozen=True)
class Thought:
    block: int
    text: str


@dataclass(frozen=True)
class Call:
    block: int
    tool: str
    arguments: Json


@dataclass(frozen=True)
class Pause:
    """Silence; for ever where there are no seconds."""

    seconds: float | None


@dataclass(frozen=True)
class Failure:
    status: int


@dataclass(frozen=True)
class Cut:
    """The connection breaks."""


@dataclass(frozen=True)
class Usage:
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Stop:
    """The end of an answer: `end`, `calls`, `limit` or `refusal`."""

    reason: str


Piece = Text | Thought | Call | Pause | Failure | Cut | Usage | Stop


@dataclass(frozen=True)
class Message:
    """One message of a request: its role, and its texts, calls and results in their order."""

    role: str
    texts: Sequence[str] = ()
    calls: Sequence[str] = ()
    results: int = 0


@dataclass(frozen=True)
class Conversation:
    """What a request holds, as every provider can say it."""

    model: str
    system: str
    messages: Sequence[Message]
    tools: Sequence[str] = ()
    images: Sequence[tuple[str, int]] = ()
    """(media type, bytes) of each image."""
    failures: dict[str, int] = field(default_factory=dict)
    """How often a `fail` step has failed; the provider's own, kept between requests."""

    @property
    def asked(self) -> int:
        """The position of the newest message that a person wrote; -1 where there is none."""
        return max((at for at, message in enumerate(self.messages) if _written(message)), default=-1)

    def tool(self, name: str) -> str:
        """The full name of the tool that is called so, or ends so."""
        exact = [tool for tool in self.tools if tool == name]
        return next(iter(exact or [tool for tool in self.tools if tool.endswith(name)]), name)


def answer(conversation: Conversation) -> Iterator[Piece]:
    """The answer, piece by piece; its last is a `Stop`, a `Failure` or a `Cut`."""
    conversation = replace(conversation, messages=[each for said in conversation.messages for each in _retold(said)])
    asked = conversation.asked
    texts = _written(conversation.messages[asked]) if asked >= 0 else []
    steps = next((found for text in reversed(texts) if (found := parse(text)) is not None), None)
    if steps is None:
        yield Text(0, texts[-1] if texts else "There is nothing to answer.")
        yield Stop("end")
        return
    since = conversation.messages[asked + 1 :]
    done = sum(message.results for message in since)
    said = _said_since_result(since)
    pieces = list(_unsaid(_played(conversation, steps, done), said)) if said else []
    if pieces == [Stop("end")]:
        pieces.insert(0, Text(0, "That was all."))
    yield from pieces or _played(conversation, steps, done)


def parse(prompt: str) -> list[list[Any]] | None:
    """The steps of a prompt, or of its last line; None where it is no script."""
    for text in (prompt.strip(), prompt.strip().rpartition("\n")[2]):
        try:
            return list(_steps(text))
        except (ValueError, IndexError):
            continue
    return None


def _steps(text: str) -> Iterator[list[Any]]:
    if not text:
        raise ValueError("no step")
    while text:
        begun = re.fullmatch(r"\s*([a-z]+)\b(.*)", text, re.DOTALL)
        if begun is None:
            raise ValueError(text)
        verb, text = begun.groups()
        if verb in ("tool", "two"):
            name, text = text.split(None, 1)
            arguments = []
            for _ in range(1 if verb == "tool" else 2):
                value, end = DECODER.raw_decode(text.lstrip())
                text = text.lstrip()[end:]
                arguments.append(value)
            yield [verb, name, arguments]
            between, _, text = text.partition(";")
            if between.strip():
                raise ValueError(between)
        else:
            words, _, text = text.partition(";")
            yield _simple(verb, words.strip())


def _simple(verb: str, rest: str) -> list[Any]:
    words = rest.split()
    match verb:
        case "say" | "think":
            return [verb, int(words[0]), float(words[1]) if words[1:] else 0.0]
        case "text":
            return [verb, rest]
        case "big":
            return [verb, int(words[0])]
        case "save":
            return ["tool", "save_artifact", [{"name": words[0]}]]
        case "usage":
            return [verb, int(words[0]), int(words[1])]
        case "wait":
            return [verb, float(words[0])]
        case "until":
            return [verb, words[0]]
        case "fail":
            return [verb, int(words[0]), int(words[1]) if words[1:] else None]
        case "history" | "images" | "tools" | "system" | "model" | "cut" | "stall" | "refuse" | "limit" if not words:
            return [verb]
    raise ValueError(verb)


def _played(conversation: Conversation, steps: list[list[Any]], done: int) -> Iterator[Piece]:
    """The steps from the one that follows the `done` results that are there."""
    for block, step in enumerate(steps):
        verb = step[0]
        if verb in ("tool", "two"):
            if done > 0:
                done -= len(step[2])
                continue
            for arguments in step[2]:
                tool = conversation.tool(step[1])
                if tool.endswith("save_artifact"):
                    arguments = {"content": f"made by {conversation.model}", **arguments}
                yield Call(block, tool, arguments)
            yield Stop("calls")
            return
        if done > 0:
            continue
        match verb:
            case "say" | "think":
                for word in range(step[1]):
                    if word and step[2]:
                        yield Pause(step[2])
                    yield (Text if verb == "say" else Thought)(block, f"w{word} ")
            case "text":
                yield Text(block, step[1])
            case "big":
                # No two lines are the same: Gemini CLI takes that for a model that has lost its way.
                lines = "".join(f"{line:015}\n" for line in range(step[1] // 16 + 1))
                yield Text(block, lines[: step[1]])
            case "usage":
                yield Usage(step[1], step[2])
            case "wait":
                yield Pause(step[1])
            case "until":
                give_up = time.monotonic() + 60
                while not Path(step[1]).exists() and time.monotonic() < give_up:
                    yield Pause(POLL_SECONDS)
            case "fail":
                key = json.dumps([steps, block])
                failed = conversation.failures.get(key, 0)
                if step[2] is None or failed < step[2]:
                    conversation.failures[key] = failed + 1
                    yield Failure(step[1])
                    return
            case "cut":
                yield Cut()
                return
            case "stall":
                yield Pause(None)
                return
            case "refuse" | "limit":
                yield Stop("refusal" if verb == "refuse" else "limit")
                return
            case _:
                yield Text(block, json.dumps(_told(conversation, verb), ensure_ascii=False))
    yield Stop("end")


def _told(conversation: Conversation, what: str) -> Any:
    match what:
        case "history":
            earlier = conversation.messages[: conversation.asked]
            return [[message.role, text] for message in earlier for text in _own(message.texts)]
        case "images":
            return [list(image) for image in conversation.images]
        case "tools":
            return list(conversation.tools)
        case "system":
            return conversation.system
    return conversation.model


def _unsaid(pieces: Iterator[Piece], said: str) -> Iterator[Piece]:
    """The pieces without what was `said` already, as far as they begin with it."""
    for piece in pieces:
        if said and isinstance(piece, Text):
            if said.startswith(piece.text.rstrip()):
                said = said[len(piece.text.rstrip()) :].lstrip()
                continue
            if piece.text.startswith(said):
                piece = Text(piece.block, piece.text[len(said) :])
            said = ""
        elif said and isinstance(piece, (Pause, Thought)) and not (isinstance(piece, Pause) and piece.seconds is None):
            continue
        yield piece


def _said_since_result(since: Sequence[Message]) -> str:
    said = ""
    for message in since:
        if message.results:
            said = ""
        elif message.role == "assistant" and not message.calls:
            said += "".join(message.texts)
    return said.strip()


def _retold(message: Message) -> list[Message]:
    """The message, or those that it tells of."""
    if not any(text.lstrip().startswith(CONTINUING) for text in message.texts):
        return [message]
    told = [found for text in message.texts for found in RETOLD.findall(text)]
    return [Message(role, results=1) if role == "tool" else Message(role, [text]) for role, text in told] or [message]


def _written(message: Message) -> list[str]:
    return _own(message.texts) if message.role == "user" else []


def _own(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.strip() and not text.lstrip().startswith(SYNTHETIC)]
