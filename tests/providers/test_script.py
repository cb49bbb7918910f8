"""The language in which a test tells a model what to answer."""

import json

import httpx2
import pytest
from providers.anthropic import Anthropic
from providers.script import Call, Conversation, Failure, Message, Pause, Piece, Stop, Text, answer, parse
from waiting import wait_for


def asked(*messages: Message) -> Conversation:
    return Conversation("model-1", "", messages, ["mcp__longwick__save_artifact"], [])


def said(*messages: Message) -> list[Piece]:
    return list(answer(asked(*messages)))


def user(*texts: str) -> Message:
    return Message("user", texts)


def test_a_script_is_played_step_by_step() -> None:
    assert said(user("say 2 0.5; text and; fail 500")) == [
        Text(0, "w0 "),
        Pause(0.5),
        Text(0, "w1 "),
        Text(1, "and"),
        Failure(500),
    ]


def test_json_may_hold_what_separates_steps() -> None:
    assert parse('tool Bash {"command": "a; b"}; say 1') == [["tool", "Bash", [{"command": "a; b"}]], ["say", 1, 0.0]]


@pytest.mark.parametrize("text", ["Hello; say 3", "say three", "tool X", "cut it", "", "a\nb"])
def test_what_is_no_script_is_none(text: str) -> None:
    assert parse(text) is None


def test_any_other_prompt_is_answered_with_itself() -> None:
    assert said(user("say 1"), Message("assistant", ["w0 "]), user("Hello")) == [Text(0, "Hello"), Stop("end")]


def test_what_a_cli_adds_in_a_users_name_is_passed_over() -> None:
    reminder = "<system-reminder>Be good.</system-reminder>"
    assert said(user("text hi", reminder), user(reminder)) == [Text(0, "hi"), Stop("end")]


def test_the_last_line_counts_where_history_comes_as_text() -> None:
    assert said(user("Earlier:\nUser: say 3\n\ntext now")) == [Text(0, "now"), Stop("end")]


def test_a_call_ends_the_answer_and_its_result_continues_it() -> None:
    prompt = user("save a.txt; two Look {} {}; text end")
    content = {"content": "made by model-1", "name": "a.txt"}
    assert said(prompt) == [Call(0, "mcp__longwick__save_artifact", content), Stop("calls")]
    first = Message("assistant", calls=["x"])
    assert [type(piece) for piece in said(prompt, first, Message("user", results=1))] == [Call, Call, Stop]
    assert said(prompt, first, Message("user", results=3)) == [Text(2, "end"), Stop("end")]


def test_what_was_said_of_a_broken_answer_is_not_said_again() -> None:
    assert said(user("say 3; text end"), Message("assistant", ["w0 w1 "])) == [
        Text(0, "w2 "),
        Text(1, "end"),
        Stop("end"),
    ]


def test_a_step_fails_so_often_and_then_lets_the_answer_go_on() -> None:
    conversation = asked(user("fail 529 2; text ok"))
    assert [next(answer(conversation)) for _ in range(3)] == [Failure(529), Failure(529), Text(1, "ok")]


def test_history_is_what_was_said_before() -> None:
    told = said(user("one"), Message("assistant", ["two"]), user("history"))
    assert told == [Text(0, json.dumps([["user", "one"], ["assistant", "two"]])), Stop("end")]


def test_a_provider_answers_whole_where_no_stream_is_asked_for() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": 'think 1; say 2; tool X {"a": 1}'}]}
    with Anthropic() as provider, httpx2.Client(trust_env=False) as http:
        message = http.post(f"{provider.url}/v1/messages", json=body).json()
        refused = http.post(
            f"{provider.url}/v1/messages", json={**body, "messages": [{"role": "user", "content": "fail 401"}]}
        )
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert (message["content"][1]["text"], message["stop_reason"]) == ("w0 w1 ", "tool_use")
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")


def test_a_provider_notes_who_hung_up_and_where_it_broke_off() -> None:
    def body(prompt: str) -> dict[str, object]:
        return {"model": "m", "stream": True, "messages": [{"role": "user", "content": prompt}]}

    with Anthropic() as provider, httpx2.Client(trust_env=False) as http:
        with http.stream("POST", f"{provider.url}/v1/messages", json=body("say 1; stall")) as stream:
            next(stream.iter_lines())
        with pytest.raises(httpx2.TransportError):
            http.post(f"{provider.url}/v1/messages", json=body("say 1; cut"))
        wait_for(lambda: [request.ended for request in provider.asked] == ["abandoned", "broken"], what="both ends")
