from typing import Any

import pytest

from longwick.events import Event, EventType, notice
from longwick.transcript import Transcript

STARTED, DELTA, COMPLETED = EventType.MESSAGE_STARTED, EventType.MESSAGE_DELTA, EventType.MESSAGE_COMPLETED


def started(block: str = "b1") -> Event:
    return Event(STARTED, {"message_id": block})


def delta(text: str, block: str = "b1") -> Event:
    return Event(DELTA, {"message_id": block, "text": text})


def completed(text: str | None, block: str = "b1", **more: Any) -> Event:
    return Event(COMPLETED, {"message_id": block, "text": text, "partial": False, **more})


def thought(text: str, block: str = "r1") -> Event:
    return Event(EventType.REASONING_DELTA, {"reasoning_id": block, "text": text})


def tool(call: str = "t1") -> Event:
    return Event(EventType.TOOL_STARTED, {"tool_call_id": call, "name": "look", "input": {}})


def tool_end(call: str = "t1") -> Event:
    return Event(EventType.TOOL_COMPLETED, {"tool_call_id": call, "output": None, "is_error": False})


def of(*events: Event) -> Transcript:
    transcript = Transcript()
    transcript.add_all(events)
    return transcript


def closing(transcript: Transcript, *, partial: bool = True) -> list[tuple[EventType, dict[str, Any]]]:
    return [(event.type, event.data) for event in transcript.close(partial=partial)]


def test_an_empty_one_has_said_nothing_and_has_nothing_open() -> None:
    transcript = Transcript()
    assert (transcript.text, transcript.last_block, transcript.usage) == ("", "", None)
    assert (transcript.open_message, transcript.open_reasoning) == (None, None)
    assert transcript.close(partial=True) == []


def test_the_text_is_the_blocks_with_a_blank_line_between_them() -> None:
    transcript = of(started(), delta("One, "), delta("two."), completed("One, two."), started("b2"), delta("3.", "b2"))
    assert transcript.text == "One, two.\n\n3."
    assert transcript.last_block == "3."
    assert transcript.open_message == "b2"


def test_blocks_without_text_leave_no_blank_lines() -> None:
    transcript = of(started(), completed(""), started("b2"), delta("Two.", "b2"), started("b3"))
    assert transcript.text == "Two."
    assert transcript.last_block == ""


def test_what_a_block_was_completed_with_counts() -> None:
    transcript = of(started(), delta("A draft."), completed("The answer."))
    assert transcript.text == "The answer."
    assert transcript.open_message is None


def test_of_a_block_whose_text_is_kept_elsewhere_the_deltas_count() -> None:
    reference = {"field": "text", "sha256": "0" * 64, "size": 4, "media_type": "text/plain"}
    assert of(started(), delta("long"), completed(None, value=reference)).text == "long"


def test_an_open_block_is_completed_with_what_was_shown() -> None:
    transcript = of(started(), delta("Half an "), delta("ans"))
    assert closing(transcript) == [(COMPLETED, {"message_id": "b1", "text": "Half an ans", "partial": True})]
    assert closing(transcript, partial=False)[0][1]["partial"] is False


def test_everything_that_is_open_is_completed_and_then_nothing_is() -> None:
    transcript = of(started(), delta("Hm"), thought("Why"), thought("?"), tool("t1"), tool("t2"), tool_end("t1"))
    assert closing(transcript) == [
        (EventType.REASONING_COMPLETED, {"reasoning_id": "r1", "text": "Why?"}),
        (COMPLETED, {"message_id": "b1", "text": "Hm", "partial": True}),
        (EventType.TOOL_COMPLETED, {"tool_call_id": "t2", "output": None, "is_error": True, "partial": True}),
    ]
    transcript.add_all(transcript.close(partial=True))
    assert transcript.close(partial=True) == []
    assert transcript.text == "Hm"


def test_several_open_blocks_are_all_completed() -> None:
    transcript = of(started("b1"), started("b2"), delta("B", "b2"), delta("A", "b1"), thought("1"), thought("2", "r2"))
    assert transcript.open_message == "b2"
    assert transcript.open_reasoning == "r2"
    assert [data["text"] for _, data in closing(transcript)] == ["1", "2", "A", "B"]


def test_closing_what_was_thought_leaves_the_answer_open() -> None:
    transcript = of(started(), delta("A"), thought("B"))
    transcript.add_all(transcript.close_reasoning())
    assert transcript.open_reasoning is None
    assert transcript.open_message == "b1"
    transcript.add_all(transcript.close_messages(partial=False))
    assert transcript.open_message is None


def test_thoughts_are_no_part_of_the_answer() -> None:
    assert of(thought("Hm."), started(), delta("Yes.")).text == "Yes."


def test_the_last_usage_counts() -> None:
    first, last = {"input_tokens": 1, "cost_usd": 0.5}, {"input_tokens": 2}
    transcript = of(Event(EventType.USAGE_UPDATED, first), Event(EventType.USAGE_UPDATED, last))
    assert transcript.usage == last


@pytest.mark.parametrize(
    "event",
    [
        Event(EventType.RUN_QUEUED, {"agent": "demo", "kind": "chat"}),
        Event(EventType.RUN_STARTED, {"attempt": 1}),
        Event(EventType.RUN_ATTEMPT_LOST, {"attempt": 1, "reason": "gone"}),
        Event(EventType.ARTIFACT_SAVED, {"artifact": {}, "tool_call_id": None}),
        Event(EventType.PROGRESS, {"message": "half", "fraction": 0.5}),
        Event(EventType.RUN_FAILED, {"error": {}}),
        notice("info", "code", "words"),
        tool_end("never started"),
        completed("whole", "never started"),
    ],
    ids=lambda event: str(event.type),
)
def test_whatever_else_happens_opens_nothing(event: Event) -> None:
    assert of(event).close(partial=True) == []


def test_a_tool_that_was_called_twice_under_one_name_is_completed_as_often() -> None:
    transcript = of(tool(), tool(), tool_end())
    assert [data["tool_call_id"] for _, data in closing(transcript)] == ["t1"]


def test_a_later_attempt_goes_on_where_an_earlier_one_was_cut_short() -> None:
    transcript = of(
        started("blk_1_1"),
        delta("Half", "blk_1_1"),
        completed("Half", "blk_1_1", partial=True),
        started("blk_2_1"),
        delta(" and half.", "blk_2_1"),
        completed(" and half.", "blk_2_1"),
        started("blk_2_2"),
        delta("More.", "blk_2_2"),
    )
    assert transcript.text == "Half and half.\n\nMore."
