"""The demo agent, run as the program that it is; the MCP server is a stand-in that shows what goes over the wire."""

import csv
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from longwick.agents import DEMO

WAIT_SECONDS = 20.0
SLOWLY = {"type": "user", "text": "Draw a candle, slowly, for 60 seconds"}
Line = dict[str, Any]


class Agent:
    """A running demo; its stdin stays open, as under a worker."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.lines: list[Line] = []
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._arrived.put(line)
        self._arrived.put(b"")

    def send(self, *lines: Line | bytes) -> None:
        assert self.process.stdin
        for line in lines:
            self.process.stdin.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, kind: str) -> Line:
        while line := self._next():
            if line["type"] == kind:
                return line
        raise AssertionError(f"ended without {kind}: {self.lines}")

    def wait_for_end(self) -> int:
        while self._next():
            pass
        return self.process.wait(WAIT_SECONDS)

    def _next(self) -> Line | None:
        raw = self._arrived.get(timeout=WAIT_SECONDS)
        if not raw:
            return None
        self.lines.append(json.loads(raw))
        return self.lines[-1]

    def only(self, kind: str) -> Line:
        (line,) = (line for line in self.lines if line["type"] == kind)
        return line

    def all(self, kind: str) -> list[str]:
        return [line["text"] for line in self.lines if line["type"] == kind]

    @property
    def answer(self) -> str:
        """The result, which is what was streamed: a blank line stands where a tool was used."""
        assert self.lines[-1]["type"] == "result"
        blocks = [""]
        for line in self.lines:
            if line["type"] == "text":
                blocks[-1] += line["text"]
            elif line["type"] == "tool_use":
                blocks.append("")
        assert self.lines[-1]["text"] == "\n\n".join(blocks)
        return str(self.lines[-1]["text"])

    def close(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            pipe.close()


@contextmanager
def started(tmp_path: Path, server: "McpStandIn | None" = None) -> Iterator[Agent]:
    """The demo in a folder and an environment as a worker gives it; what it writes on stderr fails the test."""
    environ = {"PATH": os.environ["PATH"], "http_proxy": "http://[::]"}
    if server:
        environ |= {"LONGWICK_MCP_URL": server.url, "LONGWICK_MCP_TOKEN": "secret"}
    errors = tmp_path / "stderr"
    with errors.open("wb") as stderr:
        agent = Agent(
            subprocess.Popen(
                DEMO.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=tmp_path, env=environ
            )
        )
    try:
        yield agent
    finally:
        agent.close()
    assert errors.read_text() == ""


def served(
    tmp_path: Path, text: str, *, server: "McpStandIn | None" = None, history: list[Line] | None = None
) -> Agent:
    """One whole turn."""
    with started(tmp_path, server) as agent:
        agent.send({"type": "user", "text": text, "history": history or []})
        assert agent.wait_for_end() == 0
    return agent


class McpStandIn(ThreadingHTTPServer):
    """Records every call and gives one answer; `silence` holds that back until it is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), McpRequest)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/mcp"
        self.calls: list[tuple[dict[str, str], Line]] = []
        self.status = 200
        self.answer: Line = said('ARTIFACT_CREATED:{"id":"art_1","name":"n","version":1}|Saved n (version 1).')
        self.called = threading.Event()
        self.silence = threading.Event()
        self.silence.set()


class McpRequest(BaseHTTPRequestHandler):
    server: McpStandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.server.called.set()
        self.server.silence.wait(WAIT_SECONDS)
        answer = json.dumps(self.server.answer).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


def said(text: str, *, is_error: bool = False) -> Line:
    return {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}], "isError": is_error}}


@pytest.fixture
def mcp() -> Iterator[McpStandIn]:
    with McpStandIn() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.silence.set()
        server.shutdown()
        thread.join(WAIT_SECONDS)


@pytest.mark.parametrize(
    ("request_text", "name", "media_type", "part"),
    [
        ("Write a haiku about rain on the sea", "rain-on-the-sea-haiku.md", "text/markdown", "Rain on the sea —"),
        ("Make a CSV table of apples, pears and plums", "apples-pears-and-plums-table.csv", "text/csv", '2,"Pears",5'),
        ("Please draw a candle", "candle-drawing.svg", "image/svg+xml", "<title>Candle</title>"),
        ("Make an HTML page about tea", "tea-page.html", "text/html", "<h1>Tea</h1>"),
        ("Save a note called todo.md about milk", "todo.md", "text/markdown", "# Milk"),
        ("An HTML page with a haiku about Zoë", "zoë-page.html", "text/html", "<h1>Zoë</h1>"),
    ],
)
def test_a_request_for_a_file_saves_one_that_fits_it(
    tmp_path: Path, mcp: McpStandIn, request_text: str, name: str, media_type: str, part: str
) -> None:
    agent = served(tmp_path, request_text, server=mcp)

    ((_, call),) = mcp.calls
    arguments = call["params"]["arguments"]
    assert (arguments["name"], arguments["media_type"]) == (name, media_type)
    assert part in arguments["content"]
    assert name in agent.answer
    assert "Saved n (version 1)." in agent.answer


def test_a_save_is_one_call_of_the_protocol_that_names_its_tool_use(tmp_path: Path, mcp: McpStandIn) -> None:
    agent = served(tmp_path, "Write a haiku about rain", server=mcp)

    ((headers, call),) = mcp.calls
    use, result = agent.only("tool_use"), agent.only("tool_result")
    assert headers["authorization"] == "Bearer secret"
    assert headers["accept"] == "application/json, text/event-stream"
    assert headers["mcp-protocol-version"] == "2025-06-18"
    assert (call["method"], call["params"]["name"]) == ("tools/call", "save_artifact")
    assert call["params"]["_meta"] == {"longwick/callId": use["id"]}
    assert use["name"] == "mcp__longwick__save_artifact"
    assert use["id"].startswith("toolu_")
    assert use["input"] == call["params"]["arguments"]
    assert result["id"] == use["id"]
    assert result["output"].startswith("ARTIFACT_CREATED:{")
    assert result["is_error"] is False


def test_small_talk_is_answered_in_small_pieces_and_without_a_file(tmp_path: Path, mcp: McpStandIn) -> None:
    agent = served(tmp_path, "hello", server=mcp)

    assert mcp.calls == []
    assert "demo agent" in agent.answer
    assert "no model behind me" in agent.answer
    assert len(agent.all("text")) > 10
    assert agent.lines[0]["type"] == "thinking"
    assert "no file" in "".join(agent.all("thinking"))
    usage = agent.only("usage")
    assert (usage["input_tokens"], usage["cost_usd"]) == (1, 0)
    assert usage["output_tokens"] == len(agent.answer.split())


def test_without_a_session_it_says_that_nothing_was_saved(tmp_path: Path) -> None:
    agent = served(tmp_path, "Write a haiku about rain")

    assert "nothing was saved" in agent.answer
    assert "a long wick burns through the night" in agent.answer
    assert not any(line["type"].startswith("tool") for line in agent.lines)


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (200, said("the quota is used up", is_error=True), "the quota is used up"),
        (200, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "unknown tool"}}, "unknown tool"),
        (200, {"unexpected": True}, "makes no sense"),
        (401, {}, "401"),
    ],
)
def test_a_save_that_fails_is_told_with_its_reason(
    tmp_path: Path, mcp: McpStandIn, status: int, answer: Line, reason: str
) -> None:
    mcp.status, mcp.answer = status, answer

    agent = served(tmp_path, "Write a haiku about rain", server=mcp)

    assert agent.only("tool_result")["is_error"] is True
    assert reason in agent.only("tool_result")["output"]
    assert "**not** saved" in agent.answer
    assert reason in agent.answer


def test_words_of_the_request_stay_words_in_every_kind_of_file(tmp_path: Path, mcp: McpStandIn) -> None:
    for request_text in ("Draw <b>&\x07 cats</b>", "Make a page about <script>x</script>", 'A table of =1+1, "two", x'):
        served(tmp_path, request_text, server=mcp)

    drawing, page, table = (call["params"]["arguments"]["content"] for _, call in mcp.calls)
    title = ElementTree.fromstring(drawing).findtext("{*}title")
    assert title == "B>& cats</b>"
    assert "<script" not in page
    assert "Script&gt;x&lt;/script&gt;" in page
    assert [row[1] for row in csv.reader(table.splitlines())] == ["item", "1+1", "Two", "X"]


def test_a_follow_up_counts_and_quotes_what_was_asked_before(tmp_path: Path, mcp: McpStandIn) -> None:
    history = [{"role": "user", "text": "Tell me about tea"}, {"role": "assistant", "text": "No."}]

    recalled = served(tmp_path, "What did I ask before?", server=mcp, history=history)
    drawn = served(tmp_path, "Now draw it", server=mcp, history=history)

    assert "Earlier messages in this thread: 2. You last asked: “Tell me about tea”." in recalled.answer
    assert [call["params"]["arguments"]["name"] for _, call in mcp.calls] == ["tea-drawing.svg"]
    assert "You last asked" in drawn.answer


def test_a_slow_answer_takes_its_time_and_never_stands_still(tmp_path: Path) -> None:
    began = time.monotonic()
    agent = served(tmp_path, "Say hello for 2 seconds")

    assert time.monotonic() - began >= 1.9
    pieces = agent.all("text")
    counted = pieces[pieces.index("count:") + 1 : pieces.index("\n\nThat is ")]
    assert "second 2 of 2" in "".join(counted)
    assert len(counted) >= 6


@pytest.mark.parametrize("way", ["line", "SIGINT"])
def test_a_cancelled_turn_ends_with_what_was_said_so_far(tmp_path: Path, way: str) -> None:
    with started(tmp_path) as agent:
        agent.send(SLOWLY)
        agent.wait_for("text")
        if way == "line":
            agent.send({"type": "cancel"})
        else:
            agent.process.send_signal(signal.SIGINT)

        assert agent.wait_for_end() == 0

    assert agent.answer.startswith("I am")
    assert "That is all" not in agent.answer


def test_a_cancel_is_heard_while_the_mcp_server_is_silent(tmp_path: Path, mcp: McpStandIn) -> None:
    mcp.silence.clear()
    with started(tmp_path, mcp) as agent:
        agent.send(SLOWLY)
        agent.wait_for("tool_use")
        assert mcp.called.wait(WAIT_SECONDS)
        agent.send({"type": "cancel"})

        assert agent.wait_for_end() == 0

    assert agent.only("tool_result")["is_error"] is True
    assert "stopped before" in agent.only("tool_result")["output"]


def test_what_is_added_on_the_way_is_mentioned_at_once(tmp_path: Path) -> None:
    with started(tmp_path) as agent:
        agent.send(SLOWLY)
        agent.wait_for("text")
        agent.send({"type": "user", "text": "and make it blue"})
        while "and make it blue" not in "".join(agent.all("text")):
            agent.wait_for("text")
        agent.send({"type": "cancel"})

        assert agent.wait_for_end() == 0

    assert "Meanwhile you added: “and make it blue”" in agent.answer


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"\xff\n",
        b"[]\n",
        b'{"type": "dance"}\n',
        b'{"type": "user"}\n',
        b'{"type": "user", "text": "hi", "history": [1]}\n',
    ],
)
def test_a_line_that_is_no_request_is_an_error(tmp_path: Path, line: bytes) -> None:
    with started(tmp_path) as agent:
        agent.send(line)

        assert agent.wait_for_end() == 1

    assert [(line["type"], line["code"]) for line in agent.lines] == [("error", "bad_input")]
    assert agent.lines[0]["message"]
