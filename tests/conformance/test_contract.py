"""The promises of the HTTP API, held against a server that runs: see docs/reliability.md."""

import hashlib
import io
import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from contract import Api, Json
from waiting import wait_for

TERMINAL = {"run.succeeded", "run.failed", "run.cancelled"}
SLOW = "Draw a candle for 20 seconds."


def refused(answer: httpx2.Response) -> tuple[int, str]:
    """Status and code of a refusal, after a look that it is one in all its forms."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "instance", "code", "request_id", "error"} <= problem.keys()
    assert problem["status"] == answer.status_code
    assert problem["error"]["code"] == problem["code"]
    assert problem["error"]["message"]
    return answer.status_code, str(problem["code"])


def test_it_is_alive_and_ready(api: Api) -> None:
    assert api.root.get("/healthz").status_code == 200
    ready = api.root.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] in ("ok", "degraded")
    assert {"record", "redis", "worker", "mcp"} <= ready.json()["checks"].keys()


def test_the_document_names_every_route_of_the_contract(api: Api) -> None:
    paths = api.root.get("/api/openapi.json").json()["paths"]
    for path in ("agents", "threads", "runs", "runs/{run_id}/events", "runs/{run_id}/cancel", "feed"):
        assert f"/api/v1/{path}" in paths


def test_a_run_is_accepted_streamed_and_kept(api: Api) -> None:
    run = api.run("Write a haiku.")
    assert re.fullmatch(r"run_[0-9a-z]+", run["id"])
    assert re.fullmatch(r"thr_[0-9a-z]+", run["thread_id"])
    frames = api.stream(run)
    assert [position for position, _ in frames] == list(range(1, len(frames) + 1))
    assert [event["seq"] for _, event in frames] == [position for position, _ in frames]
    types = [event["type"] for _, event in frames]
    assert types[:2] == ["run.queued", "run.started"]
    assert [kind for kind in types if kind in TERMINAL] == types[-1:] == ["run.succeeded"]
    ended = api.settled(run)
    assert (ended["status"], ended["last_seq"], ended["error"]) == ("succeeded", len(frames), None)
    said = [(message["role"], message["text"]) for message in api.get(f"/threads/{run['thread_id']}/messages")["data"]]
    assert said == [("user", "Write a haiku."), ("assistant", ended["output_text"])]
    assert api.get(f"/runs/{run['id']}/events?limit=1000")["data"] == [event for _, event in frames]


def test_a_stream_goes_on_after_any_event_and_has_nothing_after_the_last(api: Api) -> None:
    run = api.run("Write a haiku.")
    api.settled(run)
    whole = api.stream(run)
    for after in range(len(whole)):
        assert api.stream(run, after) == whole[after:]
    sse = {"accept": "text/event-stream"}
    assert api.http.get(f"/runs/{run['id']}/events?after={len(whole)}", headers=sse).status_code == 204
    beyond = api.http.get(f"/runs/{run['id']}/events?after={len(whole) + 1}", headers=sse)
    assert refused(beyond) == (409, "cursor_ahead")
    for cursor in ("-1", "one", "1.5", ""):
        assert api.http.get(f"/runs/{run['id']}/events?after={cursor}", headers=sse).status_code == 400


def test_of_two_cursors_the_larger_one_wins(api: Api) -> None:
    run = api.run()
    api.settled(run)
    headers = {"last-event-id": "2"}
    assert api.http.get(f"/runs/{run['id']}/events?after=1", headers=headers).json()["data"][0]["seq"] == 3


def test_readers_that_leave_and_come_back_see_each_event_once(api: Api) -> None:
    run = api.run("Draw a candle for 2 seconds.")
    seen: list[tuple[int, Json]] = []
    while not seen or seen[-1][1]["type"] not in TERMINAL:
        seen += api.stream(run, len(seen), most=2)
    assert [position for position, _ in seen] == list(range(1, len(seen) + 1))


def test_the_same_key_and_body_are_one_run_however_often_and_at_once(api: Api, key: str) -> None:
    body = {"input": "Say hello.", "agent": "demo"}

    def post(_: int) -> str:
        answer = api.http.post("/runs", json=body, headers={"idempotency-key": key})
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["id"]
        return run_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(post, range(16)))) == 1
    other = api.http.post("/runs", json={**body, "input": "Other."}, headers={"idempotency-key": key})
    assert refused(other) == (422, "idempotency_mismatch")


def test_a_run_is_cancelled_once_asked_and_not_when_it_is_over(api: Api) -> None:
    run = api.run(SLOW)
    wait_for(lambda: api.get(f"/runs/{run['id']}")["status"] == "running", 30, "the run to be under way")
    for _ in range(2):
        assert api.http.post(f"/runs/{run['id']}/cancel").status_code == 202
    assert api.settled(run, 30)["status"] == "cancelled"
    assert api.stream(run)[-1][1]["type"] == "run.cancelled"
    over = api.settled(api.run())
    assert refused(api.http.post(f"/runs/{over['id']}/cancel")) == (409, "already_terminal")


def test_runs_of_a_thread_follow_one_another(api: Api) -> None:
    first = api.run(SLOW)
    second = api.run("Say hello.", thread=first["thread_id"])
    assert api.get(f"/runs/{second['id']}")["status"] == "queued"
    busy = {"input": "Now.", "agent": "demo", "if_busy": "reject"}
    assert refused(api.http.post(f"/threads/{first['thread_id']}/runs", json=busy)) == (409, "thread_busy")
    third = api.run("Say hello.", thread=first["thread_id"], if_busy="interrupt")
    assert api.settled(third)["status"] == "succeeded"
    assert [api.settled(run)["status"] for run in (first, second)] == ["cancelled", "cancelled"]


def test_what_waits_is_edited_until_it_is_started(api: Api, key: str) -> None:
    first = api.run(SLOW)
    path = f"/threads/{first['thread_id']}"
    body = {"input": "Say hullo.", "agent": "demo"}
    posted = [api.http.post(f"{path}/runs", json=body, headers={"idempotency-key": key}) for _ in range(2)]
    second, third = posted[0].json(), api.run("Say bye.", thread=first["thread_id"])
    edited = api.http.patch(f"/runs/{second['id']}", json={"input": "Say hello."})
    assert (edited.status_code, edited.json()["input"]) == (200, "Say hello.")
    again = api.http.post(f"{path}/runs", json=body, headers={"idempotency-key": key})
    assert (again.json()["id"], again.json()["input"]) == (second["id"], "Say hello.")
    moved = api.http.patch(f"/runs/{third['id']}", json={"before": second["id"]})
    assert (moved.status_code, moved.json()["turn"]) == (200, 2)
    asked = [message["text"] for message in api.get(f"{path}/messages")["data"] if message["role"] == "user"]
    assert asked == [SLOW, "Say bye.", "Say hello."]
    wait_for(lambda: api.get(f"/runs/{first['id']}")["status"] == "running", 30, "the first to be under way")
    assert refused(api.http.patch(f"/runs/{first['id']}", json={"input": "Else."})) == (409, "not_queued")
    assert refused(api.http.patch(f"/runs/{third['id']}", json={"before": first["id"]})) == (409, "not_queued")
    api.http.post(f"/runs/{first['id']}/cancel")
    ended = [api.settled(run) for run in (third, second)]
    assert ended[0]["finished_at"] <= ended[1]["started_at"]
    assert refused(api.http.patch(f"/runs/{third['id']}", json={"before": None})) == (409, "not_queued")


def test_a_run_that_is_over_is_retried(api: Api) -> None:
    run = api.run()
    api.settled(run)
    again = api.http.post(f"/runs/{run['id']}/retry")
    assert again.status_code == 202
    ended = api.settled(again.json())
    assert (ended["retry_of"], ended["input"], ended["thread_id"]) == (run["id"], run["input"], run["thread_id"])


def test_what_an_agent_saves_is_listed_and_comes_as_it_was_saved(api: Api) -> None:
    run = api.run("Make a CSV table of apples, pears and plums")
    api.settled(run)
    (artifact, *_) = api.get(f"/runs/{run['id']}/artifacts")["data"]
    content = api.http.get(f"/artifacts/{artifact['id']}/content")
    assert hashlib.sha256(content.content).hexdigest() == artifact["sha256"]
    assert len(content.content) == artifact["size"]
    assert content.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in content.headers["content-security-policy"]
    path = f"/artifacts/{artifact['id']}/content"
    assert api.http.get(path, headers={"if-none-match": content.headers["etag"]}).status_code == 304
    part = api.http.get(path, headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, content.content[1:4])
    saved = [event for _, event in api.stream(run) if event["type"] == "artifact.saved"]
    assert artifact["id"] in [event["data"]["artifact"]["id"] for event in saved]


def test_files_are_attached_versioned_and_fetched_as_an_archive(api: Api) -> None:
    thread = api.http.post("/threads", json={}).json()["id"]
    empty = api.http.get(f"/threads/{thread}/artifacts.zip")
    assert zipfile.ZipFile(io.BytesIO(empty.content)).namelist() == []
    for version, content in enumerate((b"one", b"two"), 1):
        answer = api.http.post(f"/threads/{thread}/files", files={"file": ("a.txt", content)})
        assert (answer.status_code, answer.json()["type"], answer.json()["version"]) == (201, "upload", version)
    archive = zipfile.ZipFile(io.BytesIO(api.http.get(f"/threads/{thread}/artifacts.zip").content))
    assert {name: archive.read(name) for name in archive.namelist()} == {"a.txt": b"two"}


def test_a_deleted_thread_is_gone_at_once_with_all_that_is_in_it(api: Api) -> None:
    run = api.run(SLOW)
    thread = f"/threads/{run['thread_id']}"
    assert api.http.delete(thread).status_code == 204
    for path in (thread, f"{thread}/messages", f"/runs/{run['id']}", f"/runs/{run['id']}/events"):
        assert refused(api.http.get(path)) == (404, "not_found")


def test_lists_come_in_pages_that_meet(api: Api) -> None:
    thread = api.http.post("/threads", json={}).json()["id"]
    made = [api.run("Say hello.", thread=thread)["id"] for _ in range(3)]
    found: list[str] = []
    query = f"/runs?thread_id={thread}&limit=2"
    while True:
        page = api.get(query + (f"&after={found[-1]}" if found else ""))
        assert page["object"] == "list"
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        found += [run["id"] for run in page["data"]]
        if not page["has_more"]:
            break
    assert found == made[::-1]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": 5}, "input"),
        ({"input": "x", "surprise": 1}, "surprise"),
        ({"input": "x", "kind": "later"}, "kind"),
        ({"input": "x", "agent": "nobody"}, "agent"),
    ],
)
def test_a_wrong_request_is_refused_by_the_name_of_its_field(api: Api, body: dict[str, object], param: str) -> None:
    answer = api.http.post("/runs", json=body)
    assert refused(answer)[0] == 422
    assert param in answer.json()["error"]["message"]


def test_what_is_not_there_is_not_found(api: Api) -> None:
    nowhere = "0" * 26
    for path in (f"/runs/run_{nowhere}", f"/threads/thr_{nowhere}", f"/artifacts/art_{nowhere}", "/runs/what"):
        assert refused(api.http.get(path)) == (404, "not_found")


def test_what_nobody_asked_leave_for_is_not_decided(api: Api) -> None:
    nowhere = f"/approvals/apr_{'0' * 26}"
    assert refused(api.http.post(nowhere, json={"decision": "allow"})) == (404, "not_found")
    for verdict in ({}, {"decision": "maybe"}, {"decision": "allow", "surprise": 1}):
        assert refused(api.http.post(nowhere, json=verdict))[0] == 422
    assert refused(api.http.get("/approvals", params={"status": "maybe"}))[0] == 422
    listed = api.http.get("/approvals", params={"status": "pending"}).json()
    assert (listed["object"], all(each["status"] == "pending" for each in listed["data"])) == ("list", True)


def test_an_agent_that_takes_nothing_more_says_so(api: Api) -> None:
    run = api.run(SLOW)
    assert refused(api.http.post(f"/runs/{run['id']}/input", json={"input": "More."})) == (409, "not_steerable")
    assert api.http.post(f"/runs/{run['id']}/cancel").status_code == 202


def test_another_sites_page_can_start_nothing(api: Api) -> None:
    body = {"input": "x", "agent": "demo"}
    assert api.http.post("/runs", json=body, headers={"origin": "http://evil.example"}).status_code == 403
    assert api.http.post("/runs", json=body, headers={"host": "evil.example"}).status_code == 421


def test_the_feed_begins_with_all_there_is_and_tells_what_comes(api: Api) -> None:
    with api.http.stream("GET", "/feed") as answer:
        frames = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        assert next(frames)["type"] == "snapshot"
        run = api.run("Say hello.")
        told = next(frame["run"] for frame in frames if frame["type"] == "run" and frame["run"]["id"] == run["id"])
        assert told["status"] in ("queued", "running", "succeeded")
