"""The Python client, both kinds of it, against a real server: what it returns, raises, and takes up again."""

import asyncio
import contextlib
import hashlib
import inspect
import io
import json
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from processes import unheard_port
from stack import Stack, check_whole
from waiting import wait_for

from longwick.client import (
    Artifact,
    AsyncClient,
    Client,
    Event,
    Health,
    Refused,
    Run,
    RunError,
    Unreachable,
    find_server,
)
from longwick.client.files import write_file
from longwick.errors import BadName, BadSetting, Conflict, Invalid, NotFound


@pytest.fixture
def stack(stacks: dict[str, Stack]) -> Stack:
    return stacks["sqlite"]


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url) as client:
        yield client


class Cutter:
    """A way to a server that breaks each connection after so many bytes of its answers."""

    def __init__(self, url: str, answer_bytes: int) -> None:
        self._to = int(url.rpartition(":")[2])
        self._answer_bytes = answer_bytes
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._carry, args=(ours,), daemon=True).start()

    def _carry(self, ours: socket.socket) -> None:
        left = self._answer_bytes
        with ours, socket.create_connection(("127.0.0.1", self._to)) as theirs, contextlib.suppress(OSError):
            asking = threading.Thread(target=self._ask, args=(ours, theirs), daemon=True)
            asking.start()
            while left > 0 and (answer := theirs.recv(min(left, 65536))):
                ours.sendall(answer)
                left -= len(answer)
            ours.shutdown(socket.SHUT_RDWR)

    def _ask(self, ours: socket.socket, theirs: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while asked := ours.recv(65536):
                theirs.sendall(asked)


@contextlib.contextmanager
def answering(status: int, body: str, **headers: str) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that is no Longwick: its URL, and the headers that it is sent."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            heard.append({**self.headers, "body": sent})
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


@pytest.fixture
def unused_url() -> Iterator[str]:
    with unheard_port() as port:
        yield f"http://127.0.0.1:{port}"


def test_a_run_is_made_followed_and_read(client: Client, stack: Stack) -> None:
    run = client.create_run("say 20 0.002; save a.txt", agent="script", metadata={"for": "a test"})
    assert (run.status, run.over, run.metadata) == ("queued", False, {"for": "a test"})
    events = list(client.follow(run.id))
    assert [json.loads(event.line) for event in events] == stack.log_of({"id": run.id})
    assert events[-1].ends_as == "succeeded"
    ended = client.get_run(run.id)
    assert ended.over
    assert ended.output_text == "".join(f"{n} " for n in range(20))
    assert ended.duration is not None
    assert client.list_runs(thread_id=run.thread_id) == [ended]
    assert [said.role for said in client.list_messages(run.thread_id)] == ["user", "assistant"]
    assert client.get_thread(run.thread_id).id in [thread.id for thread in client.list_threads()]


def test_what_follows_an_event_is_what_is_followed(client: Client) -> None:
    run = client.create_run("say 5 0", agent="script")
    whole = list(client.follow(run.id))
    assert list(client.follow(run.id, after=3)) == whole[3:]
    assert list(client.follow(run.id, after=len(whole))) == []


def test_a_run_is_waited_for(client: Client) -> None:
    run = client.create_run("say 3 0.01", agent="script", kind="background")
    ended = client.wait_for_run(run.id)
    assert (ended.status, ended.kind, ended.output_text) == ("succeeded", "background", "0 1 2 ")
    assert client.wait_for_run(run.id) == ended


def test_both_clients_do_the_same(client: Client, stack: Stack, tmp_path: Path) -> None:
    async def by_the_other() -> tuple[Run, list[Event], list[Artifact], bytes, Path]:
        async with AsyncClient(stack.url) as other:
            thread = await other.create_thread(title="both")
            run = await other.create_run("say 5 0.01; leave notes/a.txt", thread_id=thread.id, agent="script")
            events = [event async for event in other.follow(run.id)]
            (file,) = await other.list_artifacts(run.id)
            saved = await other.save_artifact(file, tmp_path)
            return await other.wait_for_run(run.id), events, [file], await other.read_artifact(file.id), saved

    run, events, files, content, saved = asyncio.run(by_the_other())
    assert client.get_run(run.id) == run
    assert list(client.follow(run.id)) == events
    assert client.list_artifacts(run.thread_id) == files
    assert client.read_artifact(files[0].id) == content == saved.read_bytes()


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        public = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        return {name: list(inspect.signature(of).parameters) for name, of in public.items() if inspect.isfunction(of)}

    assert methods(Client) == methods(AsyncClient)
    assert {"follow", "wait_for_run", "save_artifact", "close"} <= set(methods(Client))


def test_a_notebook_is_shown_what_a_method_takes_and_does(client: Client) -> None:
    assert list(inspect.signature(client.get_run).parameters) == ["run_id"]
    assert client.get_run.__doc__ == Client.get_run.__doc__ == "The run as it is now."


@pytest.mark.parametrize("answer_bytes", [1700, 4000])
def test_a_stream_that_breaks_again_and_again_gives_each_event_once(stack: Stack, answer_bytes: int) -> None:
    # On a busy machine pieces of text are merged; what is used never is.
    run = stack.run("say 150 0.01; chatter 30")
    with Cutter(stack.url, answer_bytes) as cutter, Client(cutter.url) as client:
        events = [json.loads(event.line) for event in client.follow(run["id"])]
    check_whole(events)
    assert events == stack.log_of(run)
    assert cutter.connections > 2


def test_a_stream_of_the_other_client_that_breaks_gives_each_event_once(stack: Stack) -> None:
    async def follow(url: str) -> AsyncIterator[Event]:
        async with AsyncClient(url) as client:
            async for event in client.follow(run["id"]):
                yield event

    async def collect(url: str) -> list[Any]:
        return [json.loads(event.line) async for event in follow(url)]

    run = stack.run("say 100 0.01; chatter 30")
    with Cutter(stack.url, 1700) as cutter:
        events = asyncio.run(collect(cutter.url))
    check_whole(events)
    assert cutter.connections > 2


def test_whoever_follows_is_told_when_the_server_goes_and_is_back(stack: Stack) -> None:
    told: list[bool] = []
    run = stack.run("say 40 0.01; chatter 30")
    with Cutter(stack.url, 2500) as cutter, Client(cutter.url) as client:
        for _ in client.follow(run["id"], connected=told.append):
            pass
    assert told[:2] == [False, True]
    assert told == [False, True] * (len(told) // 2)


def test_patience_has_an_end(unused_url: str) -> None:
    async def follow() -> None:
        async with AsyncClient(unused_url, patience_seconds=0.3) as client:
            async for _ in client.follow("run_1"):
                pass

    with Client(unused_url, patience_seconds=0.3) as client, pytest.raises(Unreachable, match="gone away"):
        next(client.follow("run_1"))
    with pytest.raises(Unreachable, match="gone away"):
        asyncio.run(follow())


def test_a_text_that_is_too_large_for_the_log_is_fetched(client: Client, stack: Stack) -> None:
    first = client.wait_for_run(client.create_run("x" * 300_000, agent="script").id)
    run = client.create_run("history", thread_id=first.thread_id)
    text = json.dumps([["user", "x" * 300_000]])
    completed = [event for event in client.follow(run.id) if event.type == "message.completed"]
    assert [event.data["text"] for event in completed] == [text]
    assert json.loads(completed[0].line)["data"]["text"] is None
    assert client.read_value(completed[0]) == text


@pytest.mark.parametrize(
    ("ask", "error", "code"),
    [
        (lambda client: client.get_run("run_none"), NotFound, "not_found"),
        (lambda client: next(client.follow("run_none")), NotFound, "not_found"),
        (lambda client: client.get_run("../agents?x"), NotFound, "not_found"),
        (lambda client: client.create_run("x", agent="nobody"), Invalid, "unknown_agent"),
        (lambda client: client.create_run(""), Invalid, "invalid_request"),
    ],
)
def test_what_the_server_refuses_is_an_error_of_ours_with_its_code(
    client: Client, ask: Callable[[Client], object], error: type[Exception], code: str
) -> None:
    with pytest.raises(error) as raised:
        ask(client)
    assert raised.value.code == code  # type: ignore[attr-defined] # all of ours have one


def test_a_run_that_is_asked_for_twice_with_one_key_is_made_once(client: Client) -> None:
    asked: dict[str, Any] = {"agent": "script", "idempotency_key": f"key-{os.getpid()}"}
    first = client.create_run("say 1 0", **asked)
    assert client.create_run("say 1 0", **asked).id == first.id
    with pytest.raises(Invalid) as raised:
        client.create_run("say 2 0", **asked)
    assert raised.value.code == "idempotency_mismatch"


def test_a_run_is_retried_and_a_busy_thread_refuses_who_does_not_want_to_wait(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    first = client.wait_for_run(client.create_run(f"wait {gate}; exit 3", agent="script").id)
    gate.unlink()
    again = client.retry_run(first.id)
    assert (again.retry_of, again.thread_id, again.input) == (first.id, first.thread_id, first.input)
    with pytest.raises(Conflict) as raised:
        client.create_run("say 1 0", thread_id=first.thread_id, if_busy="reject")
    assert raised.value.code == "thread_busy"
    gate.touch()
    assert client.wait_for_run(again.id).status == "failed"


def test_what_waits_is_edited_and_moved_until_it_is_started(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = client.create_run(f"say 1 0; wait {gate}", agent="script")
    second, third = (client.create_run(text, thread_id=first.thread_id) for text in ("history", "say 3 0"))
    assert client.edit_run(second.id, "say 2 0").input == "say 2 0"
    assert client.move_run(third.id, before=second.id).turn == 2
    assert client.move_run(third.id).turn == 3
    assert [said.text for said in client.list_messages(first.thread_id)][-2:] == ["say 2 0", "say 3 0"]
    gate.touch()
    assert client.wait_for_run(second.id).output_text == "0 1 "
    with pytest.raises(Conflict) as raised:
        client.edit_run(second.id, "say 9 0")
    assert raised.value.code == "not_queued"


def test_a_thread_is_found_renamed_and_deleted(client: Client) -> None:
    thread = client.create_thread(title="About candles", agent="script", metadata={"a": 1})
    assert thread.id in [found.id for found in client.list_threads(q="candles")]
    renamed = client.update_thread(thread.id, title="About wicks")
    assert (renamed.title, renamed.metadata) == ("About wicks", {"a": 1})
    client.delete_thread(thread.id)
    with pytest.raises(NotFound):
        client.get_thread(thread.id)


def test_files_are_attached_to_a_thread_and_come_back_as_an_archive(client: Client) -> None:
    thread = client.create_thread()
    attached = client.attach_file(thread.id, "notes/plan.md", b"# Plan\n")
    assert (attached.name, attached.type, attached.media_type) == ("notes/plan.md", "upload", "text/markdown")
    assert client.attach_file(thread.id, "notes/plan.md", io.BytesIO(b"# Better\n")).version == 2
    with zipfile.ZipFile(io.BytesIO(client.read_archive(thread.id))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"notes/plan.md": b"# Better\n"}
    with pytest.raises(Invalid) as refused:
        client.attach_file(thread.id, "../plan.md", b"")
    assert refused.value.code == "bad_name"


def test_what_only_a_newer_server_knows_can_be_sent() -> None:
    with answering(202, "{}") as (url, heard), Client(url) as client, pytest.raises(Refused):
        client.create_run("x", mood="good")
    assert json.loads(heard[0]["body"]) == {"input": "x", "mood": "good"}


def test_a_run_is_cancelled_once_and_not_when_it_is_over(client: Client, tmp_path: Path) -> None:
    run = client.create_run(f"say 3 0; wait {tmp_path / 'never'}", agent="script")
    client.cancel_run(run.id)
    assert client.wait_for_run(run.id).status == "cancelled"
    done = client.wait_for_run(client.create_run("say 1 0", agent="script").id)
    with pytest.raises(Conflict) as raised:
        client.cancel_run(done.id)
    assert (raised.value.code, raised.value.status) == ("already_terminal", 409)


def test_where_no_server_is_the_error_says_what_to_do(unused_url: str) -> None:
    with (
        Client(unused_url) as client,
        pytest.raises(Unreachable, match=rf"no Longwick answers at {unused_url} \(Connection refused\)"),
    ):
        client.list_agents()


@pytest.mark.parametrize(("status", "body"), [(200, "<p>hello"), (404, "<p>none"), (200, "[]"), (401, "{}")])
def test_a_server_that_is_no_longwick_is_called_so(status: int, body: str) -> None:
    with answering(status, body) as (url, _), Client(url) as client:
        for ask in (lambda: client.get_run("run_1"), client.list_runs):
            with pytest.raises(Refused, match=f"answered {status}, and not as a Longwick does"):
                ask()


def test_a_stream_of_something_else_is_refused() -> None:
    with (
        answering(200, "data: hello\n\n", Content_Type="text/event-stream") as (url, _),
        Client(url) as client,
        pytest.raises(Refused, match="no event"),
    ):
        next(client.follow("run_1"))


def test_the_key_goes_to_the_server_that_it_is_for_and_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWICK_API_KEY", "lw_secret")
    with answering(200, "{}") as (url, heard), answering(200, "{}") as (other_url, heard_elsewhere):
        monkeypatch.setenv("LONGWICK_URL", url)
        for client in (Client(), Client(other_url), Client(other_url, api_key="lw_other")):
            with client, contextlib.suppress(Refused):
                client.health()
    assert [headers.get("Authorization") for headers in heard] == ["Bearer lw_secret"]
    assert [headers.get("Authorization") for headers in heard_elsewhere] == [None, "Bearer lw_other"]


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"LONGWICK_PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"LONGWICK_HOST": "::1"}, "http://[::1]:8000"),
        ({"LONGWICK_HOST": "0.0.0.0", "LONGWICK_PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"LONGWICK_URL": "https://longwick.example", "LONGWICK_PORT": "9000"}, "https://longwick.example"),
    ],
)
def test_the_server_is_found_by_the_environment_or_the_file_env(
    environ: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in environ.items()))
    assert find_server() == (url, None)
    (tmp_path / ".env").write_text("LONGWICK_PORT=1\nLONGWICK_API_KEY=lw_key\n")
    for name, value in {"LONGWICK_PORT": "8000", **environ}.items():
        monkeypatch.setenv(name, value)
    assert find_server() == (url, "lw_key")


@pytest.mark.parametrize("url", ["nonsense", "ftp://example.com", "http://", "//host"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadSetting, match="no URL of a server"):
        Client(url)


def test_an_artifact_is_saved_as_it_was_made_and_over_nothing(client: Client, tmp_path: Path) -> None:
    run = client.wait_for_run(client.create_run("leave a/b.txt; leave top.txt", agent="script").id)
    files = {file.name: file for file in client.list_artifacts(run.id)}
    path = client.save_artifact(files["a/b.txt"], tmp_path / "new")
    assert path == tmp_path / "new" / "a" / "b.txt"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == files["a/b.txt"].sha256
    path.write_text("mine")
    with pytest.raises(Conflict, match="is there already"):
        client.save_artifact(files["a/b.txt"], tmp_path / "new")
    assert path.read_text() == "mine"
    client.save_artifact(files["a/b.txt"], tmp_path / "new", overwrite=True)
    assert path.read_bytes() == client.read_artifact(files["a/b.txt"].id)
    assert [each.name for each in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a//b", ".", "", "a\0b", "a\nb", "a/"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadName):
        write_file(tmp_path / "out", name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_folder_leads_no_file_out_of_it(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "target").write_text("mine")
    (folder / "door").symlink_to(outside)
    (folder / "link").symlink_to(outside / "target")
    (folder / "nowhere").symlink_to(outside / "not-there")
    with pytest.raises(BadName):
        write_file(folder, "door/x", b"x")
    for name in ("link", "nowhere"):
        with pytest.raises(Conflict):
            write_file(folder, name, b"x")
        write_file(folder, name, b"x", overwrite=True)
        assert not (folder / name).is_symlink()
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("target", "mine")]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(Conflict, match="is there already"):
        write_file(tmp_path, "a/b", b"x")
    with pytest.raises(Conflict, match="cannot be written"):
        write_file(tmp_path, "a" * 300, b"x")


def test_what_a_newer_server_adds_is_kept() -> None:
    run = Run.model_validate(
        {
            "id": "run_1",
            "thread_id": "thr_1",
            "kind": "chat",
            "status": "pondering",
            "agent": "demo",
            "attempt": 1,
            "last_seq": 1,
            "input": "x",
            "created_at": "2026-11-22T13:05:09.042Z",
            "mood": "good",
        }
    )
    assert run.status == "pondering"
    assert json.loads(run.model_dump_json())["mood"] == "good"
    assert '"created_at":"2026-11-22T13:05:09.042Z"' in run.model_dump_json()


def test_a_notebook_shows_a_run_and_runs_nothing_of_it(client: Client) -> None:
    run = client.create_run("say 1 0", agent="script")
    evil = "# Hi <script>alert(1)</script>\n\n[x](javascript:alert(1)) ![x](https://evil.example/x.png)\n\n- **one**"
    shown = run.model_copy(update={"output_text": evil, "agent": "<b>"})._repr_html_()
    assert "<h1>Hi &lt;script&gt;" in shown
    assert "<strong>one</strong>" in shown
    for forbidden in ("<script", "<img", 'href="javascript', "<b>&lt;b", "· <b>"):
        assert forbidden not in shown
    failed = run.model_copy(update={"error": RunError(code="cli_exit", message="<i>")})
    assert "<b>cli_exit</b>: &lt;i&gt;" in failed._repr_html_()


def test_a_notebook_shows_what_an_artifact_is(client: Client) -> None:
    run = client.wait_for_run(client.create_run("leave a<b.txt", agent="script").id)
    (file,) = client.list_artifacts(run.id)
    assert "<b>a&lt;b.txt</b>" in file._repr_html_()
    assert "version 1" in file._repr_html_()


def test_the_agents_and_the_health_are_told(client: Client) -> None:
    agents = {agent.id: agent for agent in client.list_agents()}
    assert agents["script"].available
    assert "a-program-that-nobody-has" in (agents["missing"].reason or "")

    def well() -> Health | None:
        health = client.health()
        return health if health.status == "ok" else None

    assert set(wait_for(well, what="all parts to answer").checks) == {"record", "redis", "worker", "mcp"}


def test_the_client_is_light() -> None:
    heavy = "{'sqlalchemy', 'alembic', 'celery', 'redis', 'rich', 'typer', 'markdown_it', 'fastapi'}"
    code = f"import sys, longwick.client; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"
