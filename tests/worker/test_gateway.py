"""The gateway, as a CLI meets it: it holds a pass, and gets the provider's answers as they are."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from collector import Collector
from mcp_agent import NO_CAS
from prometheus_client import REGISTRY
from providers.anthropic import Anthropic
from providers.openai import OpenAI
from providers.serving import Provider, Reply, Request
from waiting import wait_for

from longwick import traces
from longwick.prices import Price
from longwick.profiles import Profile
from worker.gateway import LARGE_BYTES, Gateway
from worker.passes import Pass
from worker.relay import MOST_PARTS
from worker.usage import UsageReader

MESSAGES = "/anthropic/v1/messages"
RESPONSES = "/openai/v1/responses"
MODELS = ["claude-sonnet-5", "gpt-5"]
KEY = "sk-the-real-key"
NOWHERE = "http://127.0.0.1:9/mcp"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(NOWHERE) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def anthropic() -> Iterator[Anthropic]:
    with Anthropic() as provider:
        yield provider


@pytest.fixture(scope="module")
def openai() -> Iterator[OpenAI]:
    with OpenAI() as provider:
        yield provider


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, anthropic: Anthropic, openai: OpenAI) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{openai.url}/v1")


def profile(adapter: str = "claude", **more: Any) -> Profile:
    return Profile.model_validate({"adapter": adapter, "command": ["cli"], "models": MODELS, **more})


@contextmanager
def passed(gateway: Gateway, of: Profile | None = None, **bound: Any) -> Iterator[Pass]:
    with gateway.issued(of or profile()) as given:
        given.bind("run_1", 1, **bound)
        yield given


def question(prompt: str, model: str = "claude-sonnet-5", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True, **more}


def asked_of_openai(prompt: str, **more: Any) -> dict[str, Any]:
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]}
    return {"model": "gpt-5", "input": [said], "stream": True, **more}


def ask(gateway: Gateway, token: str, body: Any, path: str = MESSAGES, **headers: str) -> httpx2.Response:
    with httpx2.Client(verify=NO_CAS, timeout=20) as client:
        given = (
            {"x-api-key": token, **headers} if path.startswith("/anthropic") else {"authorization": f"Bearer {token}"}
        )
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post(gateway.url + path, content=content, headers=given)


# The key


def test_a36_the_key_is_put_in_outside_and_the_token_goes_no_further(gateway: Gateway, anthropic: Anthropic) -> None:
    with passed(gateway) as given:
        answer = ask(gateway, given.token, question("say 2"), **{"anthropic-beta": "some", "cookie": "a=b"})
    assert answer.status_code == 200
    assert "w0" in answer.text
    assert KEY not in answer.text + str(answer.headers)
    seen = anthropic.asked[-1].headers
    assert (seen["x-api-key"], seen["anthropic-beta"], seen["accept-encoding"]) == (KEY, "some", "identity")
    assert "cookie" not in seen
    assert given.token not in str(seen)


@pytest.mark.parametrize(
    ("variable", "header", "beta"),
    [
        ("ANTHROPIC_AUTH_TOKEN", "authorization", None),
        ("CLAUDE_CODE_OAUTH_TOKEN", "authorization", "oauth-2025-04-20"),
    ],
)
def test_every_kind_of_key_goes_where_its_api_wants_it(
    variable: str,
    header: str,
    beta: str | None,
    gateway: Gateway,
    anthropic: Anthropic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv(variable, KEY)
    with passed(gateway) as given:
        assert ask(gateway, given.token, question("hello")).status_code == 200
    seen = anthropic.asked[-1].headers
    assert (seen[header], seen.get("anthropic-beta"), "x-api-key" in seen) == (f"Bearer {KEY}", beta, False)


def test_a_profile_may_have_a_key_and_a_provider_of_its_own(
    gateway: Gateway, anthropic: Anthropic, openai: OpenAI
) -> None:
    with passed(gateway, profile(env={"ANTHROPIC_AUTH_TOKEN": "its own"})) as given:
        assert ask(gateway, given.token, question("hello")).status_code == 200
    seen = anthropic.asked[-1].headers
    assert (seen["authorization"], "x-api-key" in seen) == ("Bearer its own", False)
    env = {"OPENAI_API_KEY": "its own", "LEVEL": "3"}
    of = profile("jsonl", provider="openai", env=env)
    assert of.environ == {"LEVEL": "3"}
    with passed(gateway, of) as given:
        assert ask(gateway, given.token, asked_of_openai("hello"), RESPONSES).status_code == 200
    assert openai.asked[-1].headers["authorization"] == "Bearer its own"


class Tracking(Provider):
    """It has its answers bear cookies, and wants to be asked elsewhere."""

    def answer(self, request: Request, reply: Reply) -> None:
        headers = {
            "Set-Cookie": "who=you",
            "Retry-After": "7",
            "X-Request-Id": "req_1",
            "Connection": "X-Mine",
            "X-Mine": "1",
        }
        reply.json({"seen": request.headers.get("cookie")}, 429, **headers)


def test_a_provider_cannot_tell_two_runs_to_be_one_and_what_it_says_of_limits_arrives(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Tracking() as provider, passed(gateway) as given:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
        answers = [ask(gateway, given.token, question("hello")) for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(429, {"seen": None})] * 2
    headers = answers[0].headers
    assert (headers["retry-after"], headers["x-request-id"], "set-cookie" in headers) == ("7", "req_1", False)


# The pass


def test_a36_a_token_is_worth_nothing_before_its_run_and_nothing_after(gateway: Gateway) -> None:
    with gateway.issued(profile()) as given:
        assert ask(gateway, given.token, question("hello")).status_code == 401
        given.bind("run_1", 1)
        assert ask(gateway, given.token, question("hello")).status_code == 200
    answer = ask(gateway, given.token, question("hello"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")
    assert ask(gateway, "", question("hello")).status_code == 401


def test_a36_the_next_attempt_has_a_token_of_its_own(gateway: Gateway) -> None:
    with passed(gateway) as first:
        pass
    with passed(gateway) as second:
        assert ask(gateway, first.token, question("hello")).status_code == 401
        assert ask(gateway, second.token, question("hello")).status_code == 200


def test_what_is_still_answered_when_the_run_is_over_is_cut_off(gateway: Gateway, anthropic: Anthropic) -> None:
    with passed(gateway) as given:
        got: list[bytes] = []
        ends: list[Exception] = []

        def follow() -> None:
            with httpx2.Client(verify=NO_CAS, timeout=20) as client:
                body = question("say 2; stall")
                with client.stream(
                    "POST", gateway.url + MESSAGES, json=body, headers={"x-api-key": given.token}
                ) as answer:
                    try:
                        got.extend(answer.iter_raw())
                    except httpx2.RemoteProtocolError as error:
                        ends.append(error)

        thread = threading.Thread(target=follow)
        thread.start()
        # What the provider has said is there, though it has not ended.
        wait_for(lambda: b"w1" in b"".join(got), what="the first words")
        gateway.revoke(given)
        thread.join(10)
    assert len(ends) == 1
    wait_for(lambda: anthropic.asked[-1].ended == "abandoned", what="the provider to be left")


def test_a_cli_that_hangs_up_leaves_the_provider_too(gateway: Gateway, anthropic: Anthropic) -> None:
    with passed(gateway) as given, httpx2.Client(verify=NO_CAS, timeout=20) as client:
        body = question("say 1; stall")
        with client.stream("POST", gateway.url + MESSAGES, json=body, headers={"x-api-key": given.token}) as answer:
            next(answer.iter_raw())
        wait_for(lambda: anthropic.asked[-1].ended == "abandoned", what="the provider to be left")
        assert ask(gateway, given.token, question("hello")).status_code == 200


@pytest.mark.parametrize(
    ("path", "adapter", "status"),
    [
        ("/anthropic/v1/complete", "claude", 404),
        ("/anthropic/v1/messages/batches", "claude", 404),
        ("/anthropic/v1/../v1/files", "claude", 404),
        ("/openai/v1/files", "claude", 404),
        ("/openai/v1/responses", "claude", 403),
        ("/anthropic/v1/messages", "codex", 403),
        ("/anthropic/v1/messages", "jsonl", 403),
        ("/metrics", "claude", 404),
    ],
)
def test_a36_nothing_else_can_be_asked_with_it(path: str, adapter: str, status: int, gateway: Gateway) -> None:
    with passed(gateway, profile(adapter)) as given:
        headers = {"x-api-key": given.token}
        assert httpx2.post(gateway.url + path, json={"model": "gpt-5"}, headers=headers).status_code == status


# The model


@pytest.mark.parametrize("model", ["claude-sonnet-5", "claude-sonnet-5-20260101", "claude-haiku-5"])
def test_the_models_of_the_profile_can_be_asked_also_by_their_dated_names(model: str, gateway: Gateway) -> None:
    with passed(gateway, profile(small_model="claude-haiku-5")) as given:
        assert ask(gateway, given.token, question("hello", model)).status_code == 200
    assert given.refused is None


def test_a36_another_model_is_refused_and_ends_the_run(gateway: Gateway, anthropic: Anthropic) -> None:
    woken = threading.Event()
    before = len(anthropic.requests)
    with passed(gateway, wake=woken.set) as given:
        answer = ask(gateway, given.token, question("hello", "claude-opus-5"))
    assert answer.status_code == 403
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "permission_error"
    assert "'claude-opus-5'" in answer.json()["error"]["message"]
    assert given.refused
    assert given.refused.code == "unknown_model"
    assert woken.is_set()
    assert len(anthropic.requests) == before


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "claude-sonnet-5", "model": "claude-opus-5", "messages": []}',
        b'{"model": "claude-opus-5", "mod\\u0065l": "claude-sonnet-5", "messages": []}',
        b'{"model": "claude-sonnet-5", "Model": "claude-opus-5", "messages": []}',
        b'{"messages": []}',
        b'{"model": ["claude-sonnet-5"], "messages": []}',
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
    ],
)
def test_a36_a_request_that_could_mean_several_models_is_refused(
    body: bytes, gateway: Gateway, anthropic: Anthropic
) -> None:
    before = len(anthropic.requests)
    with passed(gateway) as given:
        answer = ask(gateway, given.token, body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        encoded = ask(gateway, given.token, question("hello"), **{"content-encoding": "gzip"})
        assert encoded.status_code == 400
    assert len(anthropic.requests) == before


def test_a36_a_request_of_more_parts_than_any_text_has_is_not_taken_apart(gateway: Gateway) -> None:
    with passed(gateway) as given:
        answer = ask(gateway, given.token, b'{"model": "claude-sonnet-5", "messages": [' + b"[]," * MOST_PARTS)
    assert (answer.status_code, "parts" in answer.text) == (400, True)


def test_a_large_request_is_passed_on_as_it_is(gateway: Gateway, anthropic: Anthropic) -> None:
    with passed(gateway) as given:
        assert ask(gateway, given.token, question("hello" + " " * LARGE_BYTES)).status_code == 200
    assert len(anthropic.asked[-1].body["messages"][0]["content"]) == LARGE_BYTES + 5


@pytest.mark.parametrize(("query", "status"), [("?beta=true", 200), (f"?{'a' * 70_000}", 400), ("?\x7f", 400)])
def test_a_request_may_have_any_bytes_in_its_headers_and_not_in_its_query(
    query: str, status: int, gateway: Gateway, anthropic: Anthropic
) -> None:
    body = json.dumps(question("hello"))
    with passed(gateway) as given, socket.create_connection(gateway.place, 10) as connection:
        head = f"POST {MESSAGES}{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: {given.token}\r\n"
        connection.sendall(f"{head}X-Mine: \xff\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.startswith(f"HTTP/1.1 {status}".encode())
    if status == 200:
        assert anthropic.asked[-1].headers["x-mine"] == "\xff"


# What it uses


def test_what_passes_is_counted(gateway: Gateway) -> None:
    used = {"input_tokens": 100, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 20, "output_tokens": 3}
    with passed(gateway) as given:
        ask(gateway, given.token, question("say 3"))
        assert [event.data for event in given.take()] == [used]
        assert given.take() == []
        ask(gateway, given.token, question("say 3", stream=False))
        twice = {name: 2 * count for name, count in used.items()} | {"output_tokens": 3 + 1}
        assert [event.data for event in given.take()] == [twice]


def test_its_metrics_move_with_what_passes(gateway: Gateway) -> None:
    def seen() -> dict[str, float]:
        asked = {"provider": "anthropic"}
        names = {
            "requests_total": asked | {"status": "200"},
            "tokens_total": asked | {"kind": "output"},
            "first_byte_seconds_count": asked,
        }
        return {
            name: REGISTRY.get_sample_value(f"longwick_gateway_{name}", labels) or 0 for name, labels in names.items()
        }

    before = seen()
    with passed(gateway) as given:
        ask(gateway, given.token, question("say 3"))
        assert given.take()
    risen = {name: value - before[name] for name, value in seen().items()}
    assert risen == {"requests_total": 1, "tokens_total": 3, "first_byte_seconds_count": 1}


def test_a_request_is_a_part_of_its_attempts_trace_and_says_nothing_of_what_is_asked(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector() as collector:
        for name, value in collector.environ.items():
            monkeypatch.setenv(name, value)
        # `configure` sets them for good, for a process.
        monkeypatch.setattr(traces, "_provider", None)
        monkeypatch.setattr(traces, "_tracer", None)
        traces.configure("worker")
        with passed(gateway) as given:
            given.traceparent = f"00-{'a' * 32}-{'b' * 16}-01"
            ask(gateway, given.token, question("say 3 kanarienvogel"))
        (span,) = wait_for(lambda: [span for _, span in collector.of_trace("a" * 32)], what="its span")
        traces.end()
    assert (span.name, span.parent_span_id.hex()) == ("gateway", "b" * 16)
    told = {pair.key: pair.value for pair in span.attributes}
    assert told["longwick.model"].string_value == "claude-sonnet-5"
    assert told["longwick.http_status"].int_value == 200
    for secret in (KEY, given.token, "kanarienvogel"):
        assert secret.encode() not in collector.raw


def test_what_passes_of_the_other_apis_is_counted_too(gateway: Gateway, openai: OpenAI) -> None:
    with passed(gateway, profile("codex")) as given:
        ask(gateway, given.token, asked_of_openai("say 3"), RESPONSES)
        [responses] = given.take()
        # Chat Completions have to be asked for it, also where a name is written otherwise.
        question_ = {**question("say 4", "gpt-5"), "Stream": True}
        del question_["stream"]
        answer = ask(gateway, given.token, question_, "/openai/v1/chat/completions")
        [both] = given.take()
    assert '"prompt_tokens"' in answer.text
    assert openai.asked[-1].body["stream_options"] == {"include_usage": True}
    expected = {"input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 3, "reasoning_output_tokens": 0}
    assert responses.data == expected
    assert both.data == expected | {"input_tokens": 200, "cache_read_input_tokens": 40, "output_tokens": 7}


def test_a36_an_answer_that_the_gateway_would_not_see_cannot_be_asked_for(gateway: Gateway, openai: OpenAI) -> None:
    before = len(openai.requests)
    with passed(gateway, profile("codex")) as given:
        answer = ask(gateway, given.token, asked_of_openai("say 3", stream=False, background=True), RESPONSES)
    assert (answer.status_code, "background" in answer.json()["error"]["message"]) == (400, True)
    assert len(openai.requests) == before


def test_a36_who_hangs_up_before_it_is_told_what_was_used_is_counted_by_a_guess(gateway: Gateway) -> None:
    body = json.dumps(asked_of_openai("say 20; stall")).encode()
    with passed(gateway, profile("codex")) as given, httpx2.Client(verify=NO_CAS, timeout=20) as client:
        headers = {"authorization": f"Bearer {given.token}"}
        got = b""
        with client.stream("POST", gateway.url + RESPONSES, content=body, headers=headers) as answer:
            for chunk in answer.iter_raw():
                got += chunk
                if b"w19" in got:
                    break
        [used] = wait_for(given.take, what="what it has used")
    assert used.data == {"input_tokens": len(body) // 4, "output_tokens": len(got) // 128}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([{"type": "response.completed", "response": {"usage": {"input_tokens": 7, "output_tokens": 2}}}], (7, 2)),
        ([{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}], (7, 2)),
        ([{"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}], (7, 10)),
        ([{"type": "message_delta", "usage": {"output_tokens": 2}}], (0, 2)),
        ([{"type": "response.created", "response": {"usage": None}}], (25, 10)),
    ],
)
def test_what_a_provider_has_told_in_full_is_not_guessed(lines: list[Any], told: tuple[int, int]) -> None:
    sums: Counter[str] = Counter()
    reader = UsageReader(sums.update, streamed=True, asked=100)
    for line in lines:
        reader.feed(f"data: {json.dumps(line)}\n\n".encode())
    reader.feed(b": " + b"x" * 1280)
    reader.break_off()
    assert (sums["input_tokens"], sums["output_tokens"]) == told


PRICES = {"claude-sonnet-5": Price(input=10, output=100, cache_read=1), "gpt-5": Price(input=10, output=100)}


def priced(adapter: str = "claude", **more: Any) -> Profile:
    # As agents.load puts them in.
    return profile(adapter, **more).model_copy(update={"prices": PRICES})


def test_what_it_costs_is_what_the_operator_says(gateway: Gateway) -> None:
    with passed(gateway, priced()) as given:
        ask(gateway, given.token, question("say 3", "claude-sonnet-5-20260101"))
        assert given.take()[0].data["cost_usd"] == pytest.approx((100 * 10 + 20 * 1 + 3 * 100) / 1e6)
        # Its own figure is no matter then, and nothing is counted twice.
        merged = given.merged({"input_tokens": 100, "output_tokens": 3, "cost_usd": 7.0, "server_tool_tokens": 1})
        assert merged["cost_usd"] == pytest.approx(0.00132)
        assert (merged["input_tokens"], merged["output_tokens"], merged["server_tool_tokens"]) == (100, 3, 1)
    with passed(gateway, priced("codex")) as given:
        # There, what was read from a cache is among the input.
        ask(gateway, given.token, asked_of_openai("say 3"), RESPONSES)
        assert given.take()[0].data["cost_usd"] == pytest.approx((80 * 10 + 20 * 10 + 3 * 100) / 1e6)


def test_where_no_price_is_known_the_figure_of_the_cli_stays(gateway: Gateway) -> None:
    with passed(gateway, used={"input_tokens": 50}, cost_usd=1.0) as given:
        ask(gateway, given.token, question("say 3"))
        assert "cost_usd" not in given.take()[0].data
        merged = given.merged({"input_tokens": 100, "cost_usd": 0.5})
        assert (merged["input_tokens"], merged["cost_usd"]) == (150, 1.5)


@pytest.mark.parametrize(
    ("limited", "bound", "words"),
    [
        ({"max_tokens": 150}, {}, "150 tokens"),
        ({"max_tokens": 150}, {"used": {"input_tokens": 100}}, "150 tokens"),
        ({}, {"max_cost_usd": 0.002}, "0.002 USD"),
        ({}, {"max_cost_usd": 0.002, "cost_usd": 0.0015}, "0.002 USD"),
    ],
)
def test_a36_a_budget_that_is_used_up_refuses_the_next_request(
    limited: dict[str, Any], bound: dict[str, Any], words: str, gateway: Gateway, anthropic: Anthropic
) -> None:
    """Also one of which earlier attempts have had their part."""
    with passed(gateway, priced(**limited), **bound) as given:
        fits = 1 if bound.get("used") or bound.get("cost_usd") else 2
        assert [ask(gateway, given.token, question("say 3")).status_code for _ in range(fits)] == [200] * fits
        before = len(anthropic.asked)
        answer = ask(gateway, given.token, question("say 3"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert words in answer.json()["error"]["message"]
    assert given.refused
    assert given.refused.code == "budget_exceeded"
    assert len(anthropic.asked) == before


def test_a_limit_of_money_that_cannot_hold_is_told(gateway: Gateway) -> None:
    with passed(gateway, profile("codex"), max_cost_usd=0.1) as given:
        for _ in range(2):
            ask(gateway, given.token, asked_of_openai("say 3"), RESPONSES)
        told = [event.data["code"] for event in given.take() if event.type == "notice"]
    assert told == ["unpriced_model"]


# When the provider fails


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 529])
def test_what_the_provider_refuses_is_told_as_it_says_it(status: int, gateway: Gateway, anthropic: Anthropic) -> None:
    with passed(gateway) as given:
        direct = httpx2.post(anthropic.url + "/v1/messages", json=question(f"fail {status}"))
        answer = ask(gateway, given.token, question(f"fail {status}"))
    assert (answer.status_code, answer.content) == (status, direct.content)
    assert given.refused is None


def test_an_answer_that_breaks_off_breaks_off(gateway: Gateway) -> None:
    with passed(gateway) as given:
        with pytest.raises(httpx2.RemoteProtocolError):
            ask(gateway, given.token, question("say 2; cut"))
        # What it had used by then is counted.
        assert given.take()[0].data["input_tokens"] == 100


def test_a_provider_that_is_not_there_is_an_error_of_its_api(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    with passed(gateway) as given:
        answer = ask(gateway, given.token, question("hello"))
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error")


class Encoding(Provider):
    """It encodes its answers without being asked to."""

    def answer(self, request: Request, reply: Reply) -> None:
        reply.json({}, 200, **{"Content-Encoding": "br"})


def test_a36_an_answer_whose_usage_cannot_be_read_is_not_handed_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Encoding() as provider, passed(gateway) as given:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
        assert ask(gateway, given.token, question("hello")).status_code == 502


def test_a_gateway_that_ends_ends_what_passes() -> None:
    with Anthropic() as provider, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_BASE_URL", provider.url)
        with Gateway(NOWHERE) as gateway, passed(gateway) as given, httpx2.Client(verify=NO_CAS, timeout=20) as client:
            body = question("say 1; stall")
            request = client.build_request(
                "POST", gateway.url + MESSAGES, json=body, headers={"x-api-key": given.token}
            )
            answer = client.send(request, stream=True)
            next(answer.iter_raw())
        wait_for(lambda: provider.asked[-1].ended == "abandoned", what="the provider to be left")
        answer.close()
