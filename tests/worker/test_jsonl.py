"""What the lines of a CLI mean, one by one, as the runner takes them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwick.events import DELTA_CHARACTERS, Event, EventType
from longwick.profiles import Profile
from longwick.text import clean
from longwick.transcript import Transcript
from worker.agents import End, Said, Turn
from worker.agents.jsonl import JsonLines

PROFILE = Profile(adapter="jsonl", command=["agent", "--flag"])
TURN = Turn("run_1", "thr_1", 2, "What now?", [Said("user", "Hi"), Said("assistant", "Hello\u2028é")])
Line = Mapping[str, Any] | bytes


class Conversation:
    """What became of the lines so far."""

    def __init__(self) -> None:
        self.adapter = JsonLines(PROFILE, TURN)
        self.shown = Transcript()
        self.events: list[Event] = []
        self.end: End | None = None

    def hear(self, *lines: Line) -> "Conversation":
        for line in lines:
            raw = line if isinstance(line, bytes) else json.dumps(line).encode()
            for meant in self.adapter.translate(raw, self.shown):
                if isinstance(meant, End):
                    self.end = meant
                    return self
                self.shown.add(meant.type, meant.data)
                self.events.append(meant)
        return self

    @property
    def told(self) -> list[tuple[str, Any]]:
        """(Type, the value that counts) of each event."""
        names = ("text", "output", "name", "code")
        return [
            (event.type.value, next((event.data[name] for name in names if name in event.data), None))
            for event in self.events
        ]


@pytest.fixture
def conversation() -> Conversation:
    return Conversation()


def text(words: str) -> Line:
    return {"type": "text", "text": words}


def thinking(words: str) -> Line:
    return {"type": "thinking", "text": words}


def tool(call: str = "t1", **more: Any) -> Line:
    return {"type": "tool_use", "id": call, "name": "look", **more}


def result(words: str | None = None) -> Line:
    return {"type": "result"} if words is None else {"type": "result", "text": words}


def test_it_is_told_its_turn_with_what_was_said_before_in_one_line_of_ascii() -> None:
    launch = JsonLines(PROFILE, TURN).launch(Path("/anywhere"), Path("/home"))
    assert launch.argv == ["agent", "--flag"]
    assert launch.env == {}
    assert launch.opening.count(b"\n") == 1
    assert launch.opening.endswith(b"\n")
    assert launch.opening.isascii()
    assert json.loads(launch.opening) == {
        "type": "user",
        "text": "What now?",
        "history": [{"role": "user", "text": "Hi"}, {"role": "assistant", "text": "Hello\u2028é"}],
    }


def test_it_is_asked_to_stop_by_a_line() -> None:
    assert JsonLines(PROFILE, TURN).interrupt() == b'{"type": "cancel"}\n'


def test_pieces_of_text_are_one_block(conversation: Conversation) -> None:
    conversation.hear(text("Hello, "), text(""), text("world."))
    assert conversation.told == [
        ("message.started", None),
        ("message.delta", "Hello, "),
        ("message.delta", ""),
        ("message.delta", "world."),
    ]
    assert len({event.data["message_id"] for event in conversation.events}) == 1
    assert conversation.shown.text == "Hello, world."


def test_blocks_of_two_attempts_have_different_names(conversation: Conversation) -> None:
    conversation.hear(thinking("Hm."), text("A"), tool(), text("B"))
    names = {
        event.data.get("message_id") or event.data.get("reasoning_id")
        for event in conversation.events
        if event.type is not EventType.TOOL_STARTED
    }
    assert len(names) == 3
    assert all("_2_" in str(name) for name in names)


def test_thinking_is_complete_before_text_comes(conversation: Conversation) -> None:
    conversation.hear(thinking("Let me "), thinking("see."), text("I see."))
    assert conversation.told == [
        ("reasoning.delta", "Let me "),
        ("reasoning.delta", "see."),
        ("reasoning.completed", "Let me see."),
        ("message.started", None),
        ("message.delta", "I see."),
    ]


def test_thinking_in_the_middle_leaves_the_text_block_open(conversation: Conversation) -> None:
    conversation.hear(text("One, "), thinking("and?"), text("two."))
    assert conversation.told[-3:] == [
        ("reasoning.delta", "and?"),
        ("reasoning.completed", "and?"),
        ("message.delta", "two."),
    ]
    assert conversation.shown.text == "One, two."


def test_a_tool_completes_thinking_and_text(conversation: Conversation) -> None:
    conversation.hear(text("I look."), thinking("Where?"), tool(input={"at": "it"}))
    assert conversation.told[-3:] == [
        ("reasoning.completed", "Where?"),
        ("message.completed", "I look."),
        ("tool.started", "look"),
    ]
    assert not conversation.events[-2].data["partial"]
    assert conversation.events[-1].data["input"] == {"at": "it"}


def test_text_after_a_tool_is_a_new_block(conversation: Conversation) -> None:
    conversation.hear(text("Before."), tool(), {"type": "tool_result", "id": "t1"}, text("After."))
    assert conversation.shown.text == "Before.\n\nAfter."
    assert conversation.shown.last_block == "After."


def test_a_tool_whose_result_never_comes_is_closed_at_the_end(conversation: Conversation) -> None:
    conversation.hear(tool("t1"), tool("t2"), {"type": "tool_result", "id": "t1", "output": None, "is_error": True})
    assert conversation.events[-1].data == {"tool_call_id": "t1", "output": None, "is_error": True}
    (left,) = conversation.shown.close(partial=False)
    assert (left.type, left.data["tool_call_id"]) == (EventType.TOOL_COMPLETED, "t2")


def test_members_that_are_optional_may_be_missing(conversation: Conversation) -> None:
    conversation.hear(tool(), {"type": "tool_result", "id": "t1"}, {"type": "usage"}, result())
    assert [event.data for event in conversation.events] == [
        {"tool_call_id": "t1", "name": "look", "input": {}},
        {"tool_call_id": "t1", "output": None, "is_error": False},
        {},
    ]
    assert conversation.end == End(text=None)


def test_a_tool_may_take_and_give_any_json(conversation: Conversation) -> None:
    values: list[Any] = [None, 0, 1.5, "words", [], [{}], {"a": None}]
    for value in values:
        conversation.hear(tool(input=value), {"type": "tool_result", "id": "t1", "output": value})
        assert conversation.events[-2].data["input"] == value
        assert conversation.events[-1].data["output"] == value


def test_usage_is_passed_on_as_it_is(conversation: Conversation) -> None:
    conversation.hear({"type": "usage", "input_tokens": 1, "cost_usd": 0.5, "cached": {"read": 7}})
    assert conversation.shown.usage == {"input_tokens": 1, "cached": {"read": 7}}
    assert conversation.shown.cost_usd == 0.5


@pytest.mark.parametrize(
    "before",
    [[], [text("All.")], [text("A"), text("ll.")], [text("Some."), tool(), text("All.")]],
    ids=["nothing", "in one", "in pieces", "the last block"],
)
def test_a_result_that_says_what_was_streamed_shows_nothing_twice(
    before: list[Line], conversation: Conversation
) -> None:
    heard = len(conversation.hear(*before).events)
    conversation.hear(result("All."))
    assert conversation.end == End(text="All.")
    if before:
        assert len(conversation.events) == heard
    else:
        assert conversation.told == [("message.started", None), ("message.delta", "All.")]


def test_a_result_that_says_all_blocks_shows_nothing_twice(conversation: Conversation) -> None:
    heard = len(conversation.hear(text("A."), tool(), text("B.")).events)
    conversation.hear(result("A.\n\nB."))
    assert len(conversation.events) == heard
    assert conversation.end == End(text="A.\n\nB.")


def test_a_result_that_says_something_else_replaces_the_open_block(conversation: Conversation) -> None:
    conversation.hear(text("A draft."), result("The answer."))
    assert conversation.told[-1] == ("message.completed", "The answer.")
    assert conversation.shown.text == "The answer."
    assert conversation.shown.close(partial=False) == []


def test_a_result_that_says_something_else_after_a_tool_is_a_block_of_its_own(conversation: Conversation) -> None:
    conversation.hear(text("A."), tool(), result("The answer."))
    assert conversation.told[-2:] == [("message.started", None), ("message.delta", "The answer.")]
    assert conversation.end == End(text="The answer.")


def test_a_result_completes_the_thinking_before_it_shows_the_answer(conversation: Conversation) -> None:
    conversation.hear(text("A draft."), thinking("No."), result("The answer."))
    assert conversation.told[-2:] == [("reasoning.completed", "No."), ("message.completed", "The answer.")]


def test_an_empty_result_shows_no_empty_block(conversation: Conversation) -> None:
    conversation.hear(tool(), {"type": "tool_result", "id": "t1"}, result(""))
    assert not {"message.started", "message.delta"} & {event.type for event in conversation.events}
    conversation.hear()
    assert conversation.end == End(text="")


def test_a_result_of_null_is_one_without_text(conversation: Conversation) -> None:
    conversation.hear(text("All."), {"type": "result", "text": None})
    assert conversation.end == End(text=None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"type": "error", "message": "No credit."}, "No credit."),
        ({"type": "error", "message": "No credit.", "code": "E7"}, "No credit. (E7)"),
        ({"type": "error", "message": "No credit.", "code": 402}, "No credit. (402)"),
        ({"type": "error"}, "The agent reported an error without a message."),
        ({"type": "error", "message": None, "code": "E7"}, "The agent reported an error without a message. (E7)"),
        ({"type": "error", "message": {"deep": 1}}, "{'deep': 1}"),
    ],
)
def test_an_error_ends_the_turn_in_its_own_words(line: Line, said: str, conversation: Conversation) -> None:
    conversation.hear(line)
    assert conversation.end == End(error_code="agent_error", error_message=said)


def test_an_unknown_type_is_told_and_harms_nothing(conversation: Conversation) -> None:
    conversation.hear({"type": "telemetry", "secret": "x"}, text("On."))
    assert conversation.told[0] == ("notice", "unknown_message")
    assert conversation.events[0].data["level"] == "info"
    assert "'telemetry'" in conversation.events[0].data["message"]
    assert conversation.shown.text == "On."


def test_the_name_of_an_unknown_type_is_shown_shortened(conversation: Conversation) -> None:
    conversation.hear({"type": "x" * 1_000_000})
    assert len(conversation.events[0].data["message"]) < 1000


@pytest.mark.parametrize(
    "line",
    [
        b"Traceback (most recent call last):",
        b"{",
        b'{"type": "text", "text": "cut o',
        b"null",
        b"true",
        b"7",
        b'"text"',
        b"[]",
        b'[{"type": "text"}]',
        b"{}",
        b'{"type": null}',
        b'{"type": ["text"]}',
        b'{"type": "text"} {"type": "text"}',
        b"\xff\xfe\x00",
        b'\xef\xbb\xbf{"type": "text", "text": "after a byte order mark"}',
        b'{"type": "usage", "input_tokens": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda line: repr(line[:30]),
)
def test_a_line_that_is_no_message_is_told_as_a_warning(line: bytes, conversation: Conversation) -> None:
    conversation.hear(line)
    (event,) = conversation.events
    assert (event.type, event.data["level"], event.data["code"]) == (EventType.NOTICE, "warning", "unreadable_line")
    shown = line.decode("utf-8", "replace").replace("\0", "\ufffd")[:20]
    assert shown in event.data["message"]


@pytest.mark.parametrize("line", [b"", b"  ", b"\r", b"\t\x0b"])
def test_an_empty_line_is_nothing(line: bytes, conversation: Conversation) -> None:
    assert conversation.hear(line).events == []


def test_a_long_line_that_is_no_message_is_shown_shortened_and_says_so(conversation: Conversation) -> None:
    conversation.hear(b"x" * 1_000_000)
    message = conversation.events[0].data["message"]
    assert len(message) < 1000
    assert "more characters" in message


@pytest.mark.parametrize(
    ("line", "member"),
    [
        ({"type": "text"}, "text"),
        ({"type": "text", "text": None}, "text"),
        ({"type": "text", "text": 7}, "text"),
        ({"type": "text", "text": ["words"]}, "text"),
        ({"type": "thinking"}, "text"),
        ({"type": "thinking", "text": {}}, "text"),
        ({"type": "tool_use", "name": "look", "input": {}}, "id"),
        ({"type": "tool_use", "id": 7, "name": "look", "input": {}}, "id"),
        ({"type": "tool_use", "id": "t1", "input": {}}, "name"),
        ({"type": "tool_use", "id": "t1", "name": None}, "name"),
        ({"type": "tool_result", "output": "x"}, "id"),
        ({"type": "tool_result", "id": None}, "id"),
        ({"type": "result", "text": 7}, "text"),
        ({"type": "result", "text": ["All."]}, "text"),
    ],
    ids=str,
)
def test_a_member_that_is_missing_or_wrong_is_named(line: Line, member: str, conversation: Conversation) -> None:
    conversation.hear(text("Before."), line)
    assert conversation.told[2:] == [("notice", "unreadable_line")]
    message = conversation.events[-1].data["message"]
    assert f"'{member}'" in message
    assert isinstance(line, dict)
    assert repr(line["type"]) in message
    assert conversation.end is None
    conversation.hear(text("After."))
    assert conversation.shown.text == "Before.After."


def test_bytes_that_are_no_utf8_are_replaced_inside_a_message(conversation: Conversation) -> None:
    conversation.hear(b'{"type": "text", "text": "caf\xe9"}')
    assert conversation.shown.text == "caf\ufffd"


def test_what_the_record_does_not_take_is_replaced(conversation: Conversation) -> None:
    conversation.hear(
        rb'{"type": "text", "text": "a\u0000b\ud800c"}',
        rb'{"type": "tool_use", "id": "t\u0000", "name": "n", "input": {"k\udfff": ["\u0000"]}}',
        rb'{"type": "\u0000"}',
        rb'{"type": "error", "message": "\ud800"}',
    )
    assert conversation.shown.text == "a\ufffdb\ufffdc"
    assert conversation.events[-2].data == {
        "tool_call_id": "t\ufffd",
        "name": "n",
        "input": {"k\ufffd": ["\ufffd"]},
    }
    json.dumps([event.data for event in conversation.events], ensure_ascii=False).encode()
    assert conversation.end == End(error_code="agent_error", error_message="\ufffd")


def test_a_pair_of_surrogates_is_one_character(conversation: Conversation) -> None:
    conversation.hear(rb'{"type": "text", "text": "\ud83d\udd6f"}')
    assert conversation.shown.text == "\N{CANDLE}"


@pytest.mark.parametrize("depth", [100, 400, 500, 700, 900, 1100, 100_000])
@pytest.mark.parametrize("nested", [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
def test_json_of_any_depth_is_a_message_or_told(
    depth: int, nested: tuple[bytes, bytes], conversation: Conversation
) -> None:
    opened, closed = nested
    value = opened * depth + b"0" + closed * depth
    conversation.hear(b'{"type": "tool_use", "id": "t1", "name": "dig", "input": ' + value + b"}")
    (event,) = conversation.events
    assert event.type in (EventType.TOOL_STARTED, EventType.NOTICE)
    event.encoded_tail()


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_numbers_that_json_does_not_have_reach_no_reader(number: bytes, conversation: Conversation) -> None:
    conversation.hear(
        b'{"type": "tool_use", "id": "t1", "name": "n", "input": [' + number + b"]}",
        b'{"type": "tool_result", "id": "t1", "output": ' + number + b"}",
        b'{"type": "usage", "input_tokens": ' + number + b"}",
    )
    for event in conversation.events:
        json.dumps(event.data, allow_nan=False)


def test_a_long_piece_of_text_is_one_delta_here(conversation: Conversation) -> None:
    """It is cut where it is recorded."""
    conversation.hear(text("x" * (3 * DELTA_CHARACTERS)))
    assert len(conversation.events) == 2


def strings(value: Any) -> Iterator[str]:
    """All strings inside a JSON value, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value:
            yield from strings(item)
        if isinstance(value, dict):
            yield from strings(list(value.values()))


CHARACTERS = st.characters(exclude_categories=())  # lone surrogates too
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(["text", "thinking", "tool_use", "tool_result", "usage", "result", "error", "other"])
messages = st.dictionaries(
    st.sampled_from(["text", "id", "name", "input", "output", "is_error", "code", "message", "cost_usd"]),
    st.text(CHARACTERS) | json_values,
)


@settings(deadline=None)
@given(st.lists(st.tuples(kinds, messages) | st.binary(max_size=60), max_size=12))
def test_whatever_it_prints_is_told_in_order_and_can_be_stored(said: list[Any]) -> None:
    lines: list[Line] = [each if isinstance(each, bytes) else {**each[1], "type": each[0]} for each in said]
    conversation = Conversation().hear(*lines)
    closing = conversation.shown.close(partial=conversation.end is None)
    begun: list[str] = []
    for event in [*conversation.events, *closing]:
        event.encoded_tail().encode("ascii")
        assert [words for words in strings(event.data) if words != clean(words)] == []
        if event.type is EventType.MESSAGE_STARTED:
            assert begun == [], "one block at a time"
            begun.append(event.data["message_id"])
        elif event.type is EventType.MESSAGE_DELTA:
            assert begun == [event.data["message_id"]]
        elif event.type is EventType.MESSAGE_COMPLETED:
            begun.remove(event.data["message_id"])
    assert begun == []
    ended = [line for line in lines if not isinstance(line, bytes) and line["type"] in ("result", "error")]
    assert conversation.end is None or ended
