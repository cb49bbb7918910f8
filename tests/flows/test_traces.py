"""Traces, as a collector gets them from the whole product: one run is one tree, and it tells no secrets."""

import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from collector import Collector
from providers.anthropic import Anthropic
from stack import Json, Stack, asking
from waiting import wait_for

OURS = "longwick."


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Anthropic() as provider:
        env = {**collector.environ, **asking(provider.url)}
        with Stack(tmp_path_factory.mktemp("traces") / "stack", env) as stack:
            yield stack


def submit(stack: Stack, body: Json, path: str = "/runs") -> tuple[Json, str, str]:
    """A run that somebody with a trace of their own asks for; it, the trace and their span."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    answer = stack.http.post(path, json=body or None, headers={"traceparent": f"00-{trace_id}-{span_id}-01"})
    assert answer.status_code == 202, answer.text
    return answer.json(), trace_id, span_id


def attributes(span: Any) -> dict[str, Any]:
    """What a span says in our own words."""
    told = {pair.key: pair.value for pair in span.attributes}
    return {
        key.removeprefix(OURS): getattr(value, value.WhichOneof("value"))
        for key, value in told.items()
        if key.startswith(OURS)
    }


def whole_trace(collector: Collector, trace_id: str, *also: str) -> list[tuple[str, Any]]:
    """The spans of a trace, once the task of its run is over and other tiers have told of what they did in it."""

    def over() -> list[tuple[str, Any]] | None:
        found = collector.of_trace(trace_id)
        ended = any(span.name == "task" and "status" in attributes(span) for _, span in found)
        names = {span.name for _, span in found}
        return found if ended and names.issuperset(also) and any(name.startswith("POST") for name in names) else None

    found = wait_for(over, what="the task's span")
    assert found
    return found


def test_a_run_is_one_tree_from_the_request_to_the_call_of_a_tool(traced: Stack, collector: Collector) -> None:
    run, trace_id, caller = submit(traced, {"input": "say 2 0; save kanarienvogel.txt", "agent": "script"})
    ended = traced.settled(run)
    assert ended["status"] == "succeeded"
    spans = whole_trace(collector, trace_id, "tool save_artifact")
    names = {span.span_id: span.name for _, span in spans} | {bytes.fromhex(caller): "caller"}
    tree = {(service.removeprefix("longwick-"), span.name, names[span.parent_span_id]) for service, span in spans}
    assert tree == {
        ("web", "POST /api/v1/runs", "caller"),
        ("worker", "queued", "POST /api/v1/runs"),
        ("worker", "task", "POST /api/v1/runs"),
        ("worker", "claim", "task"),
        ("worker", "attempt", "task"),
        ("worker", "prepare", "attempt"),
        ("worker", "spawn", "attempt"),
        ("worker", "cli", "attempt"),
        ("worker", "first event", "cli"),
        ("mcp", "tool save_artifact", "attempt"),
        ("worker", "collect", "attempt"),
        ("worker", "settle", "attempt"),
    }
    told = {span.name: attributes(span) for _, span in spans}
    assert told["POST /api/v1/runs"]["run_id"] == told["task"]["run_id"] == told["attempt"]["run_id"] == run["id"]
    assert (told["attempt"]["attempt"], told["attempt"]["agent"], told["task"]["status"]) == (1, "script", "succeeded")
    assert told["tool save_artifact"] == {"outcome": "ok"}
    for _, span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano


def test_a_request_for_a_model_is_part_of_its_attempt(traced: Stack, collector: Collector) -> None:
    run, trace_id, _ = submit(traced, {"input": "m hello", "agent": "asker"})
    assert traced.settled(run)["output_text"] == "hello"
    spans = [span for _, span in whole_trace(collector, trace_id, "gateway")]
    (attempt,) = [span for span in spans if span.name == "attempt"]
    (asked,) = [span for span in spans if span.name == "gateway"]
    assert asked.parent_span_id == attempt.span_id
    told = attributes(asked)
    assert (told["provider"], told["path"], told["model"]) == ("anthropic", "/v1/messages", "m")
    assert int(told["http_status"]) == 200


def test_a_run_that_fails_is_a_task_that_failed_with_its_code(traced: Stack, collector: Collector) -> None:
    run, trace_id, _ = submit(traced, {"input": "say 2 0; exit 3", "agent": "script"})
    traced.settled(run)
    (task,) = [span for _, span in whole_trace(collector, trace_id) if span.name == "task"]
    assert (task.status.message, task.status.code) == ("cli_exit", 2)


def test_a_retry_is_a_trace_of_its_own_that_points_to_the_first(traced: Stack, collector: Collector) -> None:
    first, first_trace, _ = submit(traced, {"input": "exit 3", "agent": "script"})
    traced.settled(first)
    again, trace_id, _ = submit(traced, {}, f"/runs/{first['id']}/retry")
    traced.settled(again)
    (asked,) = [span for _, span in whole_trace(collector, trace_id) if span.name.startswith("POST")]
    assert [link.trace_id.hex() for link in asked.links] == [first_trace]


def test_another_attempt_after_a_lost_worker_goes_on_in_the_same_trace(traced: Stack, collector: Collector) -> None:
    asked = {"input": "count 20 0.05; wait /nowhere; say 1 0", "agent": "script", "on_worker_lost": "retry"}
    run, trace_id, _ = submit(traced, asked)
    wait_for(lambda: traced.text_of(run), what="the agent to run")
    traced.kill("worker")
    wait_for(lambda: traced.get(f"/runs/{run['id']}")["attempt"] == 2, 20, "another attempt")
    traced.post(f"/runs/{run['id']}/cancel")
    traced.settled(run)
    spans = [span for _, span in whole_trace(collector, trace_id)]
    (lost,) = [span for span in spans if span.name == "attempt lost"]
    (second,) = [span for span in spans if span.name == "attempt"]
    assert (attributes(lost)["attempt"], attributes(lost)["became"]) == (1, "queued")
    assert attributes(second)["attempt"] == 2


def test_looking_is_not_traced_and_nothing_tells_a_secret(traced: Stack, collector: Collector) -> None:
    """Runs after the others, and so looks at all that they had told."""
    asked = "save kanarienvogel.txt; save ../kanarienvogel; think S2FuYXJpZW52b2dlbA=="
    run, trace_id, _ = submit(traced, {"input": asked, "agent": "script"})
    traced.settled(run)
    whole_trace(collector, trace_id)
    assert not [span.name for _, span in collector.spans if span.name.startswith("GET")]
    password = urlsplit(traced.redis_url).password
    assert password
    for secret in ("anarienvogel", "lwk_", "S2Fu", password):
        assert secret.encode() not in collector.raw


def test_a_collector_that_is_away_holds_nothing_up(collector: Collector, traced: Stack) -> None:
    collector.__exit__()
    assert traced.settled(traced.run("say 2 0"))["status"] == "succeeded"
    before = traced.kill("worker", signal.SIGTERM)
    wait_for(lambda: traced.find_pid("worker") not in (None, before), what="the worker to end, and another to start")


def test_nothing_is_imported_while_nobody_collects() -> None:
    code = (
        "import sys, worker.app, web.app, mcp_server.app; from longwick import traces; traces.configure('web');"
        "assert not traces.on(); assert traces.current() is None\n"
        "with traces.span('x', attempt=1): traces.note(failed='x')\n"
        "costly = ('opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(costly)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
