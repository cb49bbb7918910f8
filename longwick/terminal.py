"""A run on a terminal, in a pipe, or as JSON lines: three views of the same events.

On a terminal what is closed (a Markdown block, a tool call, a notice) is printed for good, into the scrollback. Below
it stands the live part, painted anew with each frame: the block that still grows, the tools at work, a line of status.
"""

import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO, cast

from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from longwick.client import Event
from longwick.markdown import Blocks
from longwick.wording import clean, line_of

# Synchronised output (DEC private mode 2026).
BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPIN_SECONDS = 0.1
OPEN_LINES = 200
"""Of a block that grows, only so much can be in sight; and no more is rendered with each frame."""
OPEN_CHARACTERS = 20_000
MOST_TOOLS = 5


class View(Protocol):
    """Where a run is shown."""

    def show(self, events: Iterable[Event]) -> None:
        """Take the next events, or none: then time has passed."""

    def tell(self, words: str) -> None:
        """A word of our own, now and for good."""

    def state(self, words: str | None) -> None:
        """What is going on with the run or the server, until it is None."""

    def __enter__(self) -> object: ...
    def __exit__(self, *exc: object) -> None: ...


class JsonView:
    """Each event as a line of JSON, as it is in the record."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, events: Iterable[Event]) -> None:
        for event in events:
            sys.stdout.write(f"{event.line}\n")
        sys.stdout.flush()

    def tell(self, words: str) -> None:
        sys.stderr.write(f"{clean(words)}\n")

    def state(self, words: str | None) -> None:
        if words:
            self.tell(words)


class PipeView(JsonView):
    """The answer alone on standard output, block by block as each is complete; all else on standard error."""

    def __init__(self) -> None:
        self._errors = Console(stderr=True, highlight=False)
        self._tools: dict[str, Text] = {}
        self._said = False

    def show(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.type == "message.completed" and event.data.get("text"):
                text = str(event.data["text"])
                text = clean(text) if sys.stdout.isatty() else text
                sys.stdout.write(("\n" if self._said else "") + text + ("" if text.endswith("\n") else "\n"))
                sys.stdout.flush()
                self._said = True
            elif (line := line_of(event, self._tools)) is not None:
                self._errors.print(line, soft_wrap=True)

    def tell(self, words: str) -> None:
        self._errors.print(Text(clean(words), "dim"), soft_wrap=True)


class Frames:
    """A terminal that shows what is written at a time all at once; one that does not know the marks skips them."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self.encoding = terminal.encoding

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def write(self, text: str) -> int:
        return self._terminal.write(f"{BEGIN}{text}{END}") if text else 0

    def flush(self) -> None:
        self._terminal.flush()


class LiveView:
    """A person's terminal."""

    def __init__(self, terminal: TextIO, **options: Any) -> None:
        """`options` are those of rich's Console."""
        console = self._console = Console(
            file=cast(TextIO, Frames(terminal)), force_terminal=True, highlight=False, **options
        )
        self._texts: dict[str, _Growing] = {}
        self._tools: dict[str, Text] = {}
        self._words = "waits for its turn"
        self._state: str | None = None
        self._began = datetime.now(UTC)
        self._printed: type[ConsoleRenderable] | None = None
        # Painted by us alone, a frame at a time: a thread that paints in between would show halves.
        self._live = Live(
            _Frame(self),
            console=console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> None:
        self._live.start(refresh=True)

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, events: Iterable[Event]) -> None:
        self._print([part for event in events for part in self._take(event)])

    def tell(self, words: str) -> None:
        self._print([Text(clean(words), "dim")])

    def state(self, words: str | None) -> None:
        self._state = words
        self._live.refresh()

    def _print(self, parts: list[ConsoleRenderable]) -> None:
        """Print for good, and paint the live part below, in one write."""
        spaced: list[ConsoleRenderable] = []
        for part in parts:
            if self._printed and not (self._printed is type(part) is Text):
                spaced.append(Text())
            self._printed = type(part)
            spaced.append(part)
        if spaced:
            self._console.print(Group(*spaced))
        else:
            self._live.refresh()

    def _take(self, event: Event) -> Iterable[ConsoleRenderable]:
        data = event.data
        match event.type:
            case "message.started" | "message.delta" | "reasoning.delta":
                yield from self._growing(event).feed(data.get("text") or "")
            case "message.completed" | "reasoning.completed":
                growing = self._growing(event)
                yield from growing.complete(data.get("text"))
                del self._texts[growing.name]
            case "run.started":
                self._words = f"{clean(str(data.get('agent')))} works"
                self._began = datetime.fromisoformat(event.at)
            case "run.waiting":
                self._words = "waits for leave"
            case "progress":
                fraction = data.get("fraction")
                share = f" ({fraction:.0%})" if isinstance(fraction, int | float) else ""
                self._words = clean(str(data.get("message") or "")) + share
        if (line := line_of(event, self._tools)) is not None:
            if event.type.startswith("tool."):
                line.no_wrap, line.overflow = True, "ellipsis"
            yield line

    def _growing(self, event: Event) -> "_Growing":
        name = str(event.data.get("message_id") or event.data.get("reasoning_id"))
        return self._texts.setdefault(name, _Growing(name, "" if event.type.startswith("message") else "dim"))

    def frame(self, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
        """The lines of the live part: fewer than the terminal has, so that none of them ever scrolls away."""
        feet = [*list(self._tools.values())[-MOST_TOOLS:], self._status()][-max(1, options.size.height - 3) :]
        room = max(0, options.size.height - 3 - len(feet))
        lines: list[list[Segment]] = []
        for growing in self._texts.values():
            if part := growing.in_sight():
                lines += [*([[]] if self._printed else []), *console.render_lines(part, options, pad=False)]
        lines = lines[len(lines) - min(room, len(lines)) :]
        return [*lines, *([[]] if lines or self._printed else []), *(_cut(foot, console, options) for foot in feet)]

    def _status(self) -> Text:
        spin = SPINNER[int(time.monotonic() / SPIN_SECONDS) % len(SPINNER)]
        seconds = max(0, int((datetime.now(UTC) - self._began).total_seconds()))
        return Text.assemble((spin, "cyan"), (f" {self._state or self._words} · {seconds} s", "dim"))


class _Frame:
    """The live part, as it is when it is painted."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._view.frame(console, options):
            yield from line
            yield Segment.line()


class _Growing:
    """A text of the agent, said or thought, while it comes."""

    def __init__(self, name: str, style: str) -> None:
        self.name = name
        self._style = style
        self._said: list[str] = []
        self._blocks = Blocks()

    def feed(self, text: str) -> Iterable[ConsoleRenderable]:
        """What can be printed for good, now that there is more of it."""
        self._said.append(text)
        return self._shown(self._blocks.feed(clean(text)))

    def complete(self, text: object) -> Iterable[ConsoleRenderable]:
        """The rest of it; the text that counts may differ from what was streamed."""
        if isinstance(text, str):
            said = "".join(self._said)
            if not text.startswith(said):
                yield from self._shown(self._blocks.close())
                yield Text("The agent says it anew:", "dim")
                said = ""
            yield from self.feed(text[len(said) :])
        yield from self._shown(self._blocks.close())

    def in_sight(self) -> Markdown | None:
        """The end of the block that grows."""
        lines = self._blocks.rest[-OPEN_CHARACTERS:].split("\n")
        fence = self._blocks.rest.lstrip()[:3] in ("```", "~~~")
        head = [self._blocks.rest.lstrip().partition("\n")[0]] if fence and len(lines) > OPEN_LINES else []
        rest = "\n".join(head + lines[-OPEN_LINES:])
        return self._markdown(rest) if rest.strip() else None

    def _shown(self, blocks: list[str]) -> Iterable[ConsoleRenderable]:
        return [self._markdown(block) for block in blocks if block.strip()]

    def _markdown(self, text: str) -> Markdown:
        # Links with their addresses in sight: an agent may name one and mean another.
        return Markdown(text, code_theme="ansi_dark", style=self._style, hyperlinks=False)


def _cut(text: Text, console: Console, options: ConsoleOptions) -> list[Segment]:
    """A text as exactly one line."""
    return console.render_lines(text, options.update(no_wrap=True, overflow="ellipsis"), pad=False)[0]
