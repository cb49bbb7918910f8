import base64
import hashlib
import json
import resource
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
import pytest
from mcp_agent import CALL_SECONDS, LEGACY, MODERN, Agent, request, said, served, start_run
from mcp_types import CallToolResult
from processes import Process
from sqlalchemy import text
from waiting import wait_for

from longwick import artifacts, cancellation, events, runs, threads
from longwick.artifacts import Quota, Save
from longwick.database import Database, Db, utc_now
from longwick.errors import StorageFull
from longwick.ids import new_id
from longwick.kinds import ArtifactType, RunStatus
from longwick.models import Artifact
from longwick.outcomes import Outcome
from longwick.patience import Alive
from longwick.settings import Settings
from longwick.storage import FolderStorage, Stored, describe
from mcp_server.app import create_app
from mcp_server.tools import LISTED_FILES, READ_BYTES

NO_FILES = {"artifacts": [], "omitted": 0}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
BAD_NAMES = {
    "empty": "",
    "absolute": "/etc/passwd",
    "parent": "../secret.md",
    "parent inside": "a/../../b",
    "here": "./a.md",
    "folder": "charts/",
    "double slash": "a//b",
    "backslash": "..\\secret.md",
    "NUL": "a\0b",
    "newline": "a\nb.md",
    "escape": "\x1b[2Ja.md",
    "delete": "a\x7f.md",
    "C1 control": "a\x85.md",
    "line separator": "a\u2028b.md",
    "right to left": "invoice\u202efdp.exe",
    "isolate": "a\u2066b.md",
    "space before": " a.md",
    "space after": "a.md ",
    "too long": "a" * 256,
    "too long in bytes": "é" * 128,
}


# What is decided before the record is asked shows itself on one engine.
on_one_engine = pytest.mark.parametrize("engine_name", ["sqlite"])


def save(name: str = "report.md", content: str = "# Report", **more: str) -> dict[str, str]:
    return {"name": name, "content": content, **more}


def structured(answer: CallToolResult) -> dict[str, Any]:
    assert not answer.is_error, said(answer)
    content: dict[str, Any] | None = answer.structured_content
    assert content is not None
    return content


def refusal(answer: CallToolResult) -> str:
    """What the model is told of a call that was refused."""
    assert answer.is_error, said(answer)
    return said(answer)


def all_files(database: Database, agent: Agent) -> list[Artifact]:
    """Every version of every file of the agent's thread, oldest first."""
    return list(database.read(lambda db: artifacts.of_thread(db, agent.thread_id, limit=5000)).data)[::-1]


def log_of(database: Database, agent: Agent) -> list[dict[str, Any]]:
    """The events of the agent's run."""
    batches = database.read(lambda db: events.read(db, agent.run_id, 0, limit=5000))
    return [json.loads(line) for batch in batches for _, line in batch.after(0)]


# save_artifact


def test_a_saved_file_is_answered_listed_told_and_kept(
    agent: Agent, database: Database, settings: Settings, mode: str
) -> None:
    answer = agent.call("save_artifact", save(), mode=mode, meta={"longwick/callId": "call_1"})

    file = structured(answer)
    marker, _, words = said(answer).removeprefix("ARTIFACT_CREATED:").partition("|")
    assert json.loads(marker) == {"id": file["id"], "name": "report.md", "version": 1}
    assert words == "Saved report.md (version 1)."
    digest = hashlib.sha256(b"# Report").hexdigest()
    assert file | {"created_at": ""} == {
        "id": file["id"],
        "thread_id": agent.thread_id,
        "run_id": agent.run_id,
        "type": "generated_file",
        "name": "report.md",
        "version": 1,
        "media_type": "text/markdown",
        "size": 8,
        "sha256": digest,
        "created_at": "",
    }
    assert [artifacts.to_json(kept) for kept in all_files(database, agent)] == [file]
    with FolderStorage(settings.data_dir / "blobs").open(digest) as kept:
        assert kept.read() == b"# Report"
    event = log_of(database, agent)[-1]
    assert (event["type"], event["attempt"]) == ("artifact.saved", 1)
    assert event["data"] == {"artifact": file, "tool_call_id": "call_1"}


@pytest.mark.parametrize("key", ["claudecode/toolUseId", "callId", "longwick/callId"])
def test_a_call_that_is_repeated_gets_its_first_result(agent: Agent, database: Database, mode: str, key: str) -> None:
    first = agent.call("save_artifact", save(), mode=mode, meta={key: "toolu_01"})
    agent.call("save_artifact", save(content="# Another"), mode=mode, meta={key: "toolu_02"})
    again = agent.call("save_artifact", save(), mode=mode, meta={key: "toolu_01"})

    assert structured(again) == structured(first)
    assert said(again) == said(first)
    assert [file.call_id for file in all_files(database, agent)] == ["toolu_01", "toolu_02"]
    told = [event["data"]["tool_call_id"] for event in log_of(database, agent) if event["type"] == "artifact.saved"]
    assert told == ["toolu_01", "toolu_02"]


def test_repetitions_at_the_same_moment_save_once(agent: Agent, database: Database) -> None:
    body = request("tools/call", {"name": "save_artifact", "arguments": save(), "_meta": {"callId": "call_1"}})
    with ThreadPoolExecutor(8) as pool:
        answers = [done.result().json()["result"] for done in [pool.submit(agent.post, body) for _ in range(8)]]
    assert len({answer["structuredContent"]["id"] for answer in answers}) == 1
    assert len(all_files(database, agent)) == 1


def test_one_call_id_for_two_files_loses_neither(agent: Agent, database: Database) -> None:
    """A client may run a piece of code as one call, and the code may save more than once."""
    for name in ("a.md", "b.md", "b.md"):
        assert structured(agent.call("save_artifact", save(name), meta={"callId": "exec_1"}))["name"] == name
    assert [file.name for file in all_files(database, agent)] == ["a.md", "b.md"]


@pytest.mark.parametrize("call_id", [7, "", None, ["a"], "x" * 256], ids=repr)
def test_a_call_id_that_is_none_is_no_reason_to_refuse(agent: Agent, database: Database, call_id: object) -> None:
    assert structured(agent.call("save_artifact", save(), meta={"callId": call_id}))["version"] == 1
    assert all_files(database, agent)[0].call_id is None


def test_a_name_that_was_saved_before_gets_a_new_version(agent: Agent, mode: str) -> None:
    versions = [
        structured(agent.call("save_artifact", save(content=content), mode=mode))["version"]
        for content in ("one", "two", "two", "one")
    ]
    assert versions == [1, 2, 2, 3]
    assert said(agent.call("read_artifact", {"name": "report.md"}, mode=mode)) == "one"
    assert said(agent.call("read_artifact", {"name": "report.md", "version": 2}, mode=mode)) == "two"


def test_saves_at_the_same_moment_each_get_their_own_version(agent: Agent, database: Database) -> None:
    def body(number: int) -> dict[str, Any]:
        return request("tools/call", {"name": "save_artifact", "arguments": save(content=f"draft {number}")})

    with ThreadPoolExecutor(8) as pool:
        answers = [done.result() for done in [pool.submit(agent.post, body(number)) for number in range(8)]]
    assert [answer.json()["result"].get("isError", False) for answer in answers] == [False] * 8
    assert sorted(file.version for file in all_files(database, agent)) == list(range(1, 9))
    assert [event["seq"] for event in log_of(database, agent)] == list(range(1, 11))


@on_one_engine
@pytest.mark.parametrize("data", [PNG, b"", b"plain", bytes(100_000)], ids=["png", "empty", "text", "zeros"])
def test_bytes_arrive_as_they_are(agent: Agent, settings: Settings, mode: str, data: bytes) -> None:
    content = base64.b64encode(data).decode()
    file = structured(agent.call("save_artifact", save("chart.png", content, encoding="base64"), mode=mode))
    assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    with FolderStorage(settings.data_dir / "blobs").open(file["sha256"]) as kept:
        assert kept.read() == data


@on_one_engine
@pytest.mark.parametrize("content", ["null", '{"a": 1}', "[1, 2]", "a\0b", "é ∀ 🕯", "\r\n", "1"])
def test_text_arrives_as_it_is(agent: Agent, mode: str, content: str) -> None:
    file = structured(agent.call("save_artifact", save("data.json", content), mode=mode))
    assert file["size"] == len(content.encode())
    assert said(agent.call("read_artifact", {"name": "data.json"}, mode=mode)) == content


@on_one_engine
def test_what_is_no_text_in_a_text_is_replaced(agent: Agent) -> None:
    body = request("tools/call", {"name": "save_artifact", "arguments": save(content="a\ud800b")}, version=MODERN)
    assert agent.post(body, version=MODERN).json()["result"]["isError"] is False
    assert said(agent.call("read_artifact", {"name": "report.md"})) == "a\N{REPLACEMENT CHARACTER}b"


@on_one_engine
@pytest.mark.parametrize(
    ("name", "media_type", "expected"),
    [
        ("report.md", None, "text/markdown"),
        ("sales.csv", None, "text/csv"),
        ("page.html", None, "text/html"),
        ("Makefile", None, "text/plain"),
        ("odd.unheardof", None, "text/plain"),
        ("report.md", "Application/JSON", "application/json"),
        ("a", "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("Bericht für Müller – 2026.md", None, "text/markdown"),
        ("a/b/c/d|}.txt", None, "text/plain"),
    ],
)
def test_the_media_type_is_what_is_said_or_what_the_name_suggests(
    agent: Agent, name: str, media_type: str | None, expected: str
) -> None:
    arguments: dict[str, Any] = {**save(name), "media_type": media_type}
    answer = agent.call("save_artifact", arguments)
    assert (structured(answer)["name"], structured(answer)["media_type"]) == (name, expected)
    assert json.loads(said(answer).removeprefix("ARTIFACT_CREATED:").partition("|")[0])["name"] == name


@on_one_engine
def test_bytes_of_an_unknown_kind_are_no_text(agent: Agent) -> None:
    content = base64.b64encode(PNG).decode()
    assert structured(agent.call("save_artifact", save("x.unheardof", content, encoding="base64")))["media_type"] == (
        "application/octet-stream"
    )


@on_one_engine
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a11_a_bad_name_is_refused_in_words(agent: Agent, database: Database, settings: Settings, name: str) -> None:
    assert "bad_name: the name must " in refusal(agent.call("save_artifact", save(name)))
    assert "bad_name: the name must " in refusal(agent.call("read_artifact", {"name": name}))
    assert all_files(database, agent) == []
    assert not (settings.data_dir / "blobs").exists(), "nothing is written for a name that is refused"


@on_one_engine
def test_a_name_that_is_no_text_is_refused(agent: Agent) -> None:
    body = request("tools/call", {"name": "save_artifact", "arguments": save("a\ud800.md")}, version=MODERN)
    answer = agent.post(body, version=MODERN).json()["result"]
    assert answer["isError"]
    assert "bad_name" in answer["content"][0]["text"]


@on_one_engine
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (save(media_type="markdown"), "media_type must look like text/markdown"),
        (save(media_type="text/html\r\nX-Evil: 1"), "media_type must look like text/markdown"),
        (save(content="not base64!", encoding="base64"), "bad_base64"),
        (save(content="YQ", encoding="base64"), "bad_base64"),
        (save(content="YQ==\n", encoding="base64"), "bad_base64"),
        (save(content="YQ==YQ==", encoding="base64"), "bad_base64"),
        (save(content="_-8=", encoding="base64"), "bad_base64"),
        (save(content="é", encoding="base64"), "bad_base64"),
        (save(encoding="latin-1"), "encoding"),
        (save(path="/tmp"), "path"),
        ({"name": "report.md"}, "content"),
        ({"content": "no name"}, "name"),
        ({"name": "report.md", "content": 7}, "content"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_words(
    agent: Agent, database: Database, arguments: dict[str, Any], words: str
) -> None:
    assert words in refusal(agent.call("save_artifact", arguments))
    assert all_files(database, agent) == []
    assert [event["type"] for event in log_of(database, agent)] == ["run.queued", "run.started"]


@on_one_engine
def test_a_file_over_the_limit_is_refused_in_words(database: Database, settings: Settings, mode: str) -> None:
    with served(create_app(settings.model_copy(update={"artifact_bytes": 1000}))) as url:
        agent = start_run(database, url)
        assert "too_large: the file is over the limit of 1000 bytes" in refusal(
            agent.call("save_artifact", save(content="x" * 1001), mode=mode)
        )
        assert structured(agent.call("save_artifact", save(content="x" * 1000), mode=mode))["size"] == 1000
    assert len(all_files(database, agent)) == 1


@on_one_engine
def test_a_file_of_many_megabytes_is_saved(agent: Agent) -> None:
    assert structured(agent.call("save_artifact", save("big.txt", "x" * 20 * 2**20)))["size"] == 20 * 2**20


def test_a37_the_quota_of_a_run_is_told_in_words_and_the_next_run_has_its_own(
    database: Database, settings: Settings
) -> None:
    with served(create_app(settings.model_copy(update={"artifacts_per_run": 3}))) as url:
        agent = start_run(database, url)
        for number in range(3):
            structured(agent.call("save_artifact", save(f"{number}.md")))
        assert "quota_exceeded: this run has saved 3 files" in refusal(agent.call("save_artifact", save("3.md")))
        assert structured(agent.call("save_artifact", save("2.md")))["version"] == 1, "no new file, so no refusal"
        structured(start_run(database, url).call("save_artifact", save("3.md")))
    assert [file.name for file in all_files(database, agent)] == ["0.md", "1.md", "2.md"]


@on_one_engine
@pytest.mark.parametrize("limit", [{"artifacts_per_owner": 2}, {"artifact_bytes_per_owner": 2 * len("content")}])
def test_the_quota_of_an_owner_counts_the_files_of_all_threads_that_are_there(
    limit: dict[str, int], database: Database, settings: Settings
) -> None:
    with served(create_app(settings.model_copy(update=limit))) as url:
        first, second, third = (start_run(database, url) for _ in range(3))
        saved = [structured(agent.call("save_artifact", save("a.md", "content"))) for agent in (first, second)]
        assert "quota_exceeded: the user" in refusal(third.call("save_artifact", save("a.md", "content")))
        assert structured(first.call("save_artifact", save("a.md", "content"))) == saved[0]
        database.write(lambda db: threads.hide(db, threads.get(db, "local", saved[0]["thread_id"])))
        structured(third.call("save_artifact", save("a.md", "content")))


class MeanwhileStorage(FolderStorage):
    """Something happens between the check of the token and the write: while the bytes are on their way."""

    def __init__(self, folder: Path, meanwhile: Callable[[], object]) -> None:
        super().__init__(folder)
        self.meanwhile = meanwhile

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        stored = super().put(chunks, limit=limit)
        self.meanwhile()
        return stored


@pytest.mark.parametrize("end", ["settled", "cancelled", "requeued", "next attempt"])
def test_a7_an_attempt_that_ends_while_it_saves_is_fenced(
    database: Database, settings: Settings, mode: str, end: str
) -> None:
    def end_attempt() -> None:
        if end == "settled":
            outcome = Outcome(RunStatus.SUCCEEDED, "done")
            database.write(lambda db: runs.settle(db, agent.run_id, agent.attempt, outcome))
        elif end == "cancelled":
            database.write(lambda db: cancellation.request(db, "local", agent.run_id))
        else:
            database.write(lambda db: runs.requeue(db, agent.run_id, agent.attempt, "lost"))
        if end == "next attempt":
            database.write(lambda db: runs.claim(db, agent.run_id, "wrk_other", {}))

    storage = MeanwhileStorage(settings.data_dir / "blobs", end_attempt)
    with served(create_app(settings, storage)) as url:
        agent = start_run(database, url)
        assert "fenced: this session is over" in refusal(agent.call("save_artifact", save(), mode=mode))
    assert all_files(database, agent) == []
    assert "artifact.saved" not in [event["type"] for event in log_of(database, agent)]


def waits_for_a_lock(db: Db) -> bool:
    """Whether some other transaction stands before a row that is taken."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(db.scalar(text(waiting)))


@pytest.mark.parametrize("engine_name", ["postgresql"])  # on SQLite, whoever writes has checked after all others
@pytest.mark.parametrize(("tool", "arguments"), [("save_artifact", save()), ("report_progress", {"message": "Half"})])
def test_a7_a_write_that_waits_for_the_end_of_its_attempt_is_fenced(
    agent: Agent, database: Database, tool: str, arguments: dict[str, str]
) -> None:
    with ThreadPoolExecutor(1) as pool:

        def settle_before_the_call_can_write(db: Db) -> Future[CallToolResult]:
            runs.settle(db, agent.run_id, agent.attempt, Outcome(RunStatus.SUCCEEDED, "done"))
            call = pool.submit(agent.call, tool, arguments)
            wait_for(lambda: database.read(waits_for_a_lock), what="the call to meet the lock of the run's row")
            return call

        call = database.write(settle_before_the_call_can_write)
        assert "fenced: " in refusal(call.result(CALL_SECONDS))
    assert all_files(database, agent) == []
    assert log_of(database, agent)[-1]["type"] == "run.succeeded"


class BrokenStorage(FolderStorage):
    """Fails in the way that it is told to."""

    def __init__(self, folder: Path, error: Exception) -> None:
        super().__init__(folder)
        self.error = error

    def put(self, chunks: Iterable[bytes], *, limit: int, alive: Alive | None = None) -> Stored:
        raise self.error

    def open(self, sha256: str) -> BinaryIO:
        raise self.error


def test_full_storage_is_told_in_words_and_nothing_is_listed(database: Database, settings: Settings) -> None:
    full = BrokenStorage(settings.data_dir, StorageFull("no space is left for files"))
    with served(create_app(settings, full)) as url:
        agent = start_run(database, url)
        assert "storage_full: no space is left for files" in refusal(agent.call("save_artifact", save()))
        assert structured(agent.call("list_artifacts")) == NO_FILES
    assert [event["type"] for event in log_of(database, agent)] == ["run.queued", "run.started"]


@on_one_engine
def test_a43_of_an_unexpected_error_only_the_log_knows_the_words(
    database: Database, settings: Settings, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = BrokenStorage(settings.data_dir, PermissionError(13, "Permission denied", "/secret/place"))
    with served(create_app(settings, broken)) as url:
        agent = start_run(database, url)
        assert refusal(agent.call("save_artifact", save(), mode=mode)) == "Error executing tool save_artifact"
    assert "/secret/place" in caplog.text


# list_artifacts


def test_only_the_newest_version_of_each_file_is_listed(agent: Agent, mode: str) -> None:
    assert said(agent.call("list_artifacts", mode=mode)) == "There are no files in this conversation yet."
    for name, content in (("a.md", "1"), ("b.csv", "2"), ("a.md", "3"), ("a.md", "4")):
        structured(agent.call("save_artifact", save(name, content), mode=mode))
    answer = agent.call("list_artifacts", mode=mode)
    assert said(answer).splitlines() == [
        "a.md (version 3, text/markdown, 1 bytes, generated_file)",
        "b.csv (version 1, text/csv, 1 bytes, generated_file)",
    ]
    assert structured(answer) == {
        "artifacts": [
            {"name": "a.md", "version": 3, "media_type": "text/markdown", "size": 1, "type": "generated_file"},
            {"name": "b.csv", "version": 1, "media_type": "text/csv", "size": 1, "type": "generated_file"},
        ],
        "omitted": 0,
    }


def test_a_file_that_the_user_attached_is_listed_and_read(agent: Agent, database: Database, settings: Settings) -> None:
    stored = FolderStorage(settings.data_dir / "blobs").put([b"a,b"], limit=100)

    def attach(db: Db) -> None:
        artifacts.keep_blob(db, stored)
        kind = {"type": ArtifactType.UPLOAD, "name": "data.csv", "version": 1, "media_type": "text/csv"}
        where = {"id": new_id("art"), "thread_id": agent.thread_id, "run_id": None, "call_id": None}
        db.add(Artifact(**where, **kind, size=stored.size, sha256=stored.sha256, created_at=utc_now()))

    database.write(attach)
    assert said(agent.call("list_artifacts")) == "data.csv (version 1, text/csv, 3 bytes, upload)"
    assert said(agent.call("read_artifact", {"name": "data.csv"})) == "a,b"
    assert structured(agent.call("save_artifact", save("data.csv", "a,b,c")))["version"] == 2


def test_a_long_list_says_how_much_it_leaves_out(agent: Agent, database: Database) -> None:
    quota = Quota(files=LISTED_FILES + 5, size=1)
    for number in range(LISTED_FILES + 5):
        wanted = Save(f"{number}.md", "text/x", describe(b""))
        database.write(lambda db: artifacts.save(db, agent.session_id, wanted, quota))
    answer = agent.call("list_artifacts")
    assert said(answer).splitlines()[-1] == "… and 5 more that were saved earlier"
    files = structured(answer)["artifacts"]
    assert (len(files), files[0]["name"]) == (LISTED_FILES, f"{LISTED_FILES + 4}.md")
    assert structured(answer)["omitted"] == 5


# read_artifact


@on_one_engine
def test_what_is_no_text_is_read_as_base64(agent: Agent, mode: str) -> None:
    agent.call("save_artifact", save("chart.png", base64.b64encode(PNG).decode(), encoding="base64"))
    note, _, content = said(agent.call("read_artifact", {"name": "chart.png"}, mode=mode)).partition("\n")
    assert note == f"chart.png (version 1, image/png) is not text; its {len(PNG)} bytes follow as base64."
    assert base64.b64decode(content, validate=True) == PNG


@on_one_engine
def test_an_empty_file_is_said_to_be_empty(agent: Agent) -> None:
    agent.call("save_artifact", save(content=""))
    assert said(agent.call("read_artifact", {"name": "report.md"})) == "report.md (version 1, text/markdown) is empty."


@on_one_engine
def test_a_file_that_is_too_large_to_read_is_refused_in_words(agent: Agent) -> None:
    agent.call("save_artifact", save("big.txt", "x" * READ_BYTES))
    assert len(said(agent.call("read_artifact", {"name": "big.txt"}))) == READ_BYTES
    agent.call("save_artifact", save("big.txt", "x" * (READ_BYTES + 1)))
    words = refusal(agent.call("read_artifact", {"name": "big.txt"}))
    assert f"too_large: big.txt (version 2, text/plain) has {READ_BYTES + 1} bytes, and at most {READ_BYTES}" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "other.md"}, "not_found: no file 'other.md' in this thread"),
        ({"name": "report.md", "version": 2}, "not_found: no file 'report.md' with version 2"),
        ({"name": "report.md", "version": 0}, "version"),
        ({"name": "report.md", "version": 2**31}, "version"),
        ({"name": "report.md", "version": "newest"}, "version"),
        ({}, "name"),
    ],
)
def test_a_file_that_is_not_there_is_told_in_words(agent: Agent, arguments: dict[str, Any], words: str) -> None:
    agent.call("save_artifact", save())
    assert words in refusal(agent.call("read_artifact", arguments))


# report_progress


def test_progress_is_an_event_of_the_run(agent: Agent, database: Database, mode: str) -> None:
    for arguments in (
        {"message": "Reading"},
        {"message": "Half way", "fraction": 0.5},
        {"message": " Done\0\n", "fraction": 1},
    ):
        assert not agent.call("report_progress", arguments, mode=mode).is_error
    told = [(event["attempt"], event["data"]) for event in log_of(database, agent) if event["type"] == "progress"]
    assert told == [
        (1, {"message": "Reading", "fraction": None}),
        (1, {"message": "Half way", "fraction": 0.5}),
        (1, {"message": "Done\N{REPLACEMENT CHARACTER}", "fraction": 1.0}),
    ]


@on_one_engine
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"message": ""}, "message is empty"),
        ({"message": " \n"}, "message is empty"),
        ({"message": "x", "fraction": 1.01}, "fraction"),
        ({"message": "x", "fraction": -0.1}, "fraction"),
        ({"message": "x", "fraction": "half"}, "fraction"),
        ({"message": "x", "percent": 50}, "percent"),
        ({"fraction": 0.5}, "message"),
    ],
)
def test_progress_that_cannot_be_is_refused_in_words(
    agent: Agent, database: Database, arguments: dict[str, Any], words: str
) -> None:
    assert words in refusal(agent.call("report_progress", arguments))
    assert len(log_of(database, agent)) == 2


@on_one_engine
@pytest.mark.parametrize("fraction", [b"NaN", b"Infinity", b"1e999"])
def test_a10_a_fraction_that_is_no_number_reaches_no_log(agent: Agent, database: Database, fraction: bytes) -> None:
    call = {"name": "report_progress", "arguments": {"message": "x", "fraction": 7.25}}
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "report_progress"}
    for version in (LEGACY, MODERN):
        body = json.dumps(request("tools/call", call, version=version)).encode().replace(b"7.25", fraction)
        answer = agent.post(body, headers, version=version)
        assert answer.status_code == 400 or answer.json()["result"]["isError"]
    assert len(log_of(database, agent)) == 2


@on_one_engine
def test_long_progress_is_shortened(agent: Agent, database: Database) -> None:
    assert not agent.call("report_progress", {"message": "x" * 100_000}).is_error
    message = log_of(database, agent)[-1]["data"]["message"]
    assert len(message) < 1100
    assert message.endswith("more characters)")


# The server dies, and the disk is full, in earnest.


def post_until_it_dies(agent: Agent, writer: int, acknowledged: list[str]) -> None:
    """Save one file after another, and keep the ids that were answered, until the server is gone."""
    for number in count():
        body = request(
            "tools/call", {"name": "save_artifact", "arguments": save(f"{writer}.md", f"{number} " * 50_000)}
        )
        try:
            answer = agent.post(body)
        except httpx2.TransportError:
            return
        acknowledged.append(answer.json()["result"]["structuredContent"]["id"])


def test_a_server_that_is_killed_while_it_saves_lists_no_file_without_its_bytes(
    database: Database, settings: Settings, run_until_it_answers: Callable[[], tuple[Process, str]]
) -> None:
    process, url = run_until_it_answers()
    agent = start_run(database, url)
    acknowledged: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(post_until_it_dies, agent, writer, acknowledged) for writer in range(4)]
        wait_for(lambda: len(acknowledged) > 20, seconds=60, what="some saves")
        process.send(signal.SIGKILL)
        for writer in writers:
            writer.result(CALL_SECONDS)

    files = all_files(database, agent)
    assert set(acknowledged) <= {file.id for file in files}, "what was answered is in the record"
    storage = FolderStorage(settings.data_dir / "blobs")
    for file in files:
        with storage.open(file.sha256) as kept:
            data = kept.read()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
    told = [event["data"]["artifact"]["id"] for event in log_of(database, agent) if event["type"] == "artifact.saved"]
    assert sorted(told) == sorted(file.id for file in files)

    _, url = run_until_it_answers()
    again = replace(agent, url=url)
    assert said(again.call("read_artifact", {"name": "0.md"}))
    assert structured(again.call("save_artifact", save()))["version"] == 1


def test_on_a_disk_that_is_full_nothing_is_listed_and_the_rest_goes_on(
    database: Database, settings: Settings, run_until_it_answers: Callable[[], tuple[Process, str]]
) -> None:
    process, url = run_until_it_answers()
    agent = start_run(database, url)
    # To the server, a file that may not grow looks just like a disk without space.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4 * 2**20, 4 * 2**20))
    assert "storage_full: no space is left" in refusal(agent.call("save_artifact", save(content="x" * 5 * 2**20)))
    assert structured(agent.call("list_artifacts")) == NO_FILES
    assert [path for path in (settings.data_dir / "blobs").rglob("*") if path.is_file()] == []
    assert structured(agent.call("save_artifact", save()))["version"] == 1
