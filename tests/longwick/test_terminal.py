"""What a run looks like on a terminal and in a pipe. (tests/flows/test_terminal.py has the real commands.)"""

import io
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import COLUMNS, ROWS, Playback
from rich.console import Console
from rich.markdown import Markdown

from longwick.client import Event
from longwick.markdown import Blocks
from longwick.terminal import BEGIN, END, JsonView, LiveView, PipeView
from longwick.wording import clean, size_of

ANSWER = """\
# A report

A paragraph that is long enough to be wrapped, as it has more than eighty characters in its only line.
With *emphasis*, `code` and a
line that goes on
#hashtag, which is no heading.

| name | size |
|---|---|
| a.txt | 12 |

1. one

   still one
2. two

> said somebody
who went on

```python
def f():

    return 1
```
the end of it, without a new line"""


class Written(io.StringIO):
    """A terminal's other end: what was written, a write at a time."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[bytes] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.chunks.append(text.replace("\n", "\r\n").encode())
        return len(text)

    def taken(self) -> list[bytes]:
        """What was written since the last call."""
        taken, self.chunks = self.chunks, []
        return taken


def live(written: Written) -> LiveView:
    return LiveView(written, width=COLUMNS, height=ROWS, color_system="standard")


def event(kind: str, **data: Any) -> Event:
    said = {"seq": 1, "run_id": "run_1", "attempt": 1, "at": "2026-11-22T13:22:49.494Z", "type": kind, "data": data}
    return Event.parse(json.dumps(said))


def deltas(text: str, sizes: Iterable[int], kind: str = "message") -> list[Event]:
    """The text as an agent would send it, in pieces of these sizes."""
    found = []
    for size in sizes:
        piece, text = text[:size], text[size:]
        found.append(event(f"{kind}.delta", **{f"{kind}_id": "b1", "text": piece}))
        if not text:
            break
    return found


def shown(*events: Event) -> list[str]:
    """The lines that are left on a terminal, each event in a frame of its own."""
    written = Written()
    view = live(written)
    with view:
        for each in events:
            view.show([each])
    return Playback().feed(written.chunks)


def printed(text: str) -> list[str]:
    """The lines of Markdown that is printed when it is whole."""
    console = Console(file=io.StringIO(), width=COLUMNS, force_terminal=False)
    console.print(Markdown(text, hyperlinks=False))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().rstrip().split("\n")]


def without_blank(lines: list[str]) -> list[str]:
    return [line for line in lines if line]


@given(
    st.lists(st.sampled_from([*"ab#->|` \n", "\n\n", "```\n", "- x\n", "|-|\n", "    ", "1. "]), max_size=60), st.data()
)
@settings(max_examples=100, deadline=None)
def test_blocks_are_the_same_in_whatever_pieces_a_text_arrives_and_nothing_is_lost(
    parts: list[str], data: st.DataObject
) -> None:
    text = "".join(parts)
    once, pieces = Blocks(), Blocks()
    whole = [*once.feed(text), *once.close()]
    found: list[str] = []
    left = text
    while left:
        size = data.draw(st.integers(1, 12))
        found += pieces.feed(left[:size])
        left = left[size:]
    found += pieces.close()
    assert "".join(found) == text
    assert [block for block in found if block.strip()] == [block for block in whole if block.strip()]


def test_a_line_that_is_not_whole_closes_nothing() -> None:
    blocks = Blocks()
    assert blocks.feed("a paragraph\n#") == []
    assert blocks.feed("hashtag\n\n") == []
    assert blocks.feed("next\n") == ["a paragraph\n#hashtag\n\n"]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_printed_is_never_painted_over_and_adds_up_to_the_answer(seed: int) -> None:
    pieces = random.Random(seed)
    written = Written()
    view = live(written)
    playback = Playback()
    settled: list[list[str]] = []
    text = "\n\n".join([ANSWER] * 4)
    sent = deltas(text, iter(lambda: pieces.randint(1, 60), 0))
    with view:
        for each in [*sent, event("message.completed", message_id="b1", text=text)]:
            view.show([each])
            settled.append(above_the_live_part(view, playback.feed(written.taken())))
    final = playback.feed(written.taken())
    assert without_blank(final) == without_blank(printed(text))
    assert [lines for lines in settled if lines != final[: len(lines)]] == []
    assert settled[-1] == final


def above_the_live_part(view: LiveView, lines: list[str]) -> list[str]:
    console = Console(width=COLUMNS, height=ROWS)
    above = lines[: len(lines) - len(view.frame(console, console.options))]
    while above and not above[-1]:
        above.pop()
    return above


def test_a_frame_is_one_write_that_is_shown_at_once_and_clears_no_screen() -> None:
    written = Written()
    view = live(written)
    text = "\n\n".join([ANSWER] * 4)
    with view:
        for each in deltas(text, iter(lambda: 50, 0)):
            before = len(written.chunks)
            view.show([each])
            assert len(written.chunks) == before + 1
    for chunk in written.chunks:
        assert chunk.startswith(BEGIN.encode())
        assert chunk.endswith(END.encode())
    everything = b"".join(written.chunks)
    for clearing in (b"\x1b[2J", b"\x1b[J", b"\x1b[H", b"\x1b[?1049h"):
        assert clearing not in everything


def test_a_block_that_is_larger_than_the_terminal_leaves_nothing_of_itself_behind() -> None:
    code = "```\n" + "".join(f"line {n}\n" for n in range(3 * ROWS)) + "```\n"
    lines = shown(*deltas(code, iter(lambda: 7, 0)), event("message.completed", message_id="b1", text=code))
    assert without_blank(lines) == [f" line {n}" for n in range(3 * ROWS)]


def test_of_a_block_that_is_larger_than_the_terminal_the_end_is_in_sight() -> None:
    written = Written()
    view = live(written)
    playback = Playback()
    with view:
        for n in range(3 * ROWS):
            view.show(deltas(f"- line {n}\n", [100]))
            lines = playback.feed(written.taken())
            assert lines[-3].strip() == f"• line {n}"
            assert len(lines) < ROWS


def test_the_text_that_counts_is_shown_where_it_differs_from_what_was_streamed() -> None:
    streamed = deltas("I think it is 41", [100])
    lines = shown(*streamed, event("message.completed", message_id="b1", text="It is 42."))
    assert without_blank(lines) == ["I think it is 41", "The agent says it anew:", "It is 42."]


def test_a_text_without_its_deltas_is_shown_whole() -> None:
    assert shown(event("message.completed", message_id="b1", text="All of it.")) == ["All of it."]


def test_a_thought_is_dim() -> None:
    written = Written()
    view = live(written)
    with view:
        view.show(deltas("I wonder\n\nwhy", [100], "reasoning"))
        view.show([event("reasoning.completed", reasoning_id="b1", text="I wonder\n\nwhy")])
    assert without_blank(Playback().feed(written.chunks)) == ["I wonder", "why"]
    assert b"\x1b[2mI wonder" in b"".join(written.chunks)


def test_a_tool_is_one_line_while_it_works_and_one_when_it_is_done() -> None:
    written = Written()
    view = live(written)
    with view:
        view.show([event("tool.started", tool_call_id="c1", name="grep", input={"pattern": "x" * 100})])
        (working, _, *_) = Playback().feed(written.chunks)
        view.show([event("tool.completed", tool_call_id="c1", output="found\nit " + "y" * 100, is_error=False)])
    assert working.startswith('grep(pattern="xxx')
    (done,) = Playback().feed(written.chunks)
    assert done.startswith('● grep(pattern="xxx')
    assert done.endswith("…")


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (event("tool.completed", tool_call_id="c", output="no", is_error=True), "✗ a tool → no"),
        (
            event(
                "tool.completed", tool_call_id="c", output='ARTIFACT_CREATED:{"id":"art_1"}|Saved a.txt (version 1).'
            ),
            "● a tool → Saved a.txt (version 1).",
        ),
        (
            event("artifact.saved", artifact={"id": "art_1", "name": "a.txt", "version": 2, "size": 1234}),
            "▪ a.txt  version 2, 1.2 kB, art_1",
        ),
        (event("notice", level="warning", code="x", message="look\nout"), "! look out"),
        (
            event("approval.requested", approval={"id": "apr_1", "tool": "Bash", "input": {"command": "ls\x1b[2J"}}),
            '? Bash(command="ls\\u001b[2J") needs leave: `longwick allow apr_1` or `longwick deny apr_1`',
        ),
        (
            event("approval.resolved", approval={"tool": "Bash", "status": "denied", "message": "Not here."}),
            "? Bash is denied: Not here.",
        ),
        (event("input.delivered", message_id="msg_1", text="And in blue."), "> And in blue."),
        (
            event("run.attempt_lost", attempt=1, reason="x"),
            "! the worker of this run was lost; the record has all that it did",
        ),
        (
            event(
                "run.succeeded", usage={"input_tokens": 1000, "output_tokens": 234}, cost_usd=0.5, duration_ms=61_200
            ),
            "✓ succeeded · 61.2 s · 1,234 tokens · $0.5000 · run_1",
        ),
        (
            event("run.failed", error={"code": "cli_exit", "message": "it ended"}),
            "✗ failed · cli_exit: it ended · run_1",
        ),
        (event("run.cancelled", usage=None, cost_usd=None), "■ cancelled · run_1"),
    ],
)
def test_what_happens_is_told_in_a_line(told: Event, line: str) -> None:
    assert " ".join(shown(told)) == line


def test_an_event_of_an_unknown_type_is_skipped() -> None:
    assert shown(event("weather.changed", to="rain"), event("notice", message="still here")) == ["! still here"]


def test_an_agent_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;title\x07ab\x9b1Ac\u202ed\r\n"
    assert clean(evil) == "[2J]0;titleab1Acd\n"
    written = Written()
    view = live(written)
    with view:
        view.show(deltas(evil + "\n", [100]))
        view.show([event("message.completed", message_id="b1", text=evil + "\n")])
        view.show([event("tool.started", tool_call_id="c", name=evil, input={"a": evil})])
        view.show([event("tool.completed", tool_call_id="c", output=evil)])
        view.show([event("notice", level="error", message=evil), event("progress", message=evil, fraction=0.5)])
    everything = b"".join(written.chunks).decode()
    for forbidden in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b", "\u202e"):
        assert forbidden not in everything


def test_a_link_says_where_it_leads() -> None:
    assert shown(event("message.completed", message_id="b1", text="[here](https://evil.example/)")) == [
        "here (https://evil.example/)"
    ]


def test_a_pipe_gets_the_answer_as_it_is_and_all_else_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PipeView()
    with view:
        view.show(deltas("# Not ", [100]))
        view.show([event("message.completed", message_id="b1", text="# One\n\n*x*")])
        view.show([event("tool.started", tool_call_id="c", name="grep", input={})])
        view.show([event("tool.completed", tool_call_id="c", output="found", is_error=False)])
        view.show([event("message.completed", message_id="b2", text="two\n")])
    out, err = capsys.readouterr()
    assert out == "# One\n\n*x*\n\ntwo\n"
    assert err == "● grep() → found\n"


def test_json_lines_are_the_events_as_they_came(capsys: pytest.CaptureFixture[str]) -> None:
    told = event("notice", message="ä\n")
    view = JsonView()
    with view:
        view.show([told, told])
        view.state("the server is away")
    assert capsys.readouterr() == (f"{told.line}\n{told.line}\n", "the server is away\n")


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (25_165_824, "25 MB"), (3e9, "3.0 GB")]
)
def test_sizes_are_for_people(size: float, words: str) -> None:
    assert size_of(size) == words
