import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from mcp_agent import LEGACY, MODERN, Agent, claim, request, said, served, start_run
from scene import spawned_run

from longwick import cancellation, keys, passes, runs, sessions, threads
from longwick.database import Database, Db
from longwick.kinds import RunStatus
from longwick.outcomes import Outcome
from longwick.settings import Settings
from mcp_server.app import create_app

SAVE = request("tools/call", {"name": "save_artifact", "arguments": {"name": "late.md", "content": "too late"}})


def jwt(audience: str) -> str:
    """A well-formed token of somebody else's, for somebody else's server."""
    parts = ({"alg": "none"}, {"aud": audience, "sub": "agent", "exp": 2**40})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


def settle(run_id: str, attempt: int) -> Callable[[Db], object]:
    return lambda db: runs.settle(db, run_id, attempt, Outcome(RunStatus.SUCCEEDED, "done"))


def is_refused(agent: Agent) -> bool:
    """Whether the token is refused before the request is looked at, in both eras and for every method."""
    answers = [
        agent.post(SAVE),
        agent.post(request("initialize")),
        agent.post(request("server/discover", version=MODERN), version=MODERN),
        agent.post(b"no JSON"),
    ]
    assert all("lwk_" not in answer.text for answer in answers)
    return {answer.status_code for answer in answers} == {401}


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer lwk_unknown",
        "Bearer ' OR 1=1",
        "Basic bG9jYWw6bG9jYWw=",
        f"Bearer {jwt('https://elsewhere.example/mcp')}",
        f"Bearer {jwt('http://127.0.0.1:8001/mcp')}",
        f"Bearer {'x' * 10_000}",
    ],
)
def test_a1_a5_a_caller_without_a_token_of_ours_is_told_401(agent: Agent, authorization: str) -> None:
    for version in (LEGACY, MODERN):
        answer = agent.post(request("tools/list", version=version), {"Authorization": authorization}, version=version)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "resource_metadata" not in answer.headers["WWW-Authenticate"], "a CLI would begin to sign in somewhere"
        assert answer.json()["error"] == "invalid_token"


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a1_no_header_at_all_is_told_401(agent: Agent) -> None:
    assert httpx2.post(agent.url, json=request("tools/list")).status_code == 401


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a9_what_lets_somebody_in_at_the_page_opens_nothing_here(agent: Agent, database: Database) -> None:
    key = database.write(lambda db: keys.create(db, "local")).text
    signed_in = database.write(lambda db: passes.sign_in(db, key))
    assert signed_in is not None
    cookie = {"cookie": f"longwick-8000={signed_in[1].token}", "x-longwick-page": "1"}
    for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": "", **cookie}):
        assert agent.post(request("tools/list"), headers).status_code == 401
    assert agent.post(request("tools/list"), cookie).status_code == 200


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_scheme_is_read_in_any_case(agent: Agent) -> None:
    answer = agent.post(request("tools/list"), {"Authorization": f"bearer {agent.token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_server_sends_nobody_to_an_authorization_server(agent: Agent) -> None:
    for place in ("oauth-protected-resource", "oauth-protected-resource/mcp", "oauth-authorization-server"):
        answer = httpx2.get(httpx2.URL(agent.url).join(f"/.well-known/{place}"))
        assert answer.status_code == 404


def test_a7_a_token_dies_when_its_run_settles(agent: Agent, database: Database) -> None:
    assert not is_refused(agent)
    database.write(settle(agent.run_id, agent.attempt))
    assert is_refused(agent)


def test_a7_a_token_dies_when_its_run_is_to_be_cancelled(agent: Agent, database: Database) -> None:
    database.write(lambda db: cancellation.request(db, "local", agent.run_id))
    assert is_refused(agent)


def test_a7_a_token_dies_with_its_attempt_and_the_next_has_its_own(agent: Agent, database: Database) -> None:
    database.write(lambda db: runs.requeue(db, agent.run_id, agent.attempt, "its worker went away"))
    assert is_refused(agent)
    following = claim(database, agent.url, agent.run_id)
    assert following.attempt == 2
    assert is_refused(agent)
    assert following.call("list_artifacts").is_error is False


def test_a7_a_token_dies_at_its_end_time(database: Database, url: str) -> None:
    assert is_refused(start_run(database, url, lifetime_seconds=0))


def test_the_id_of_a_session_is_no_token(agent: Agent) -> None:
    assert is_refused(replace(agent, token=agent.session_id))
    assert is_refused(replace(agent, token=agent.run_id))


def test_a6_a_token_opens_nothing_of_another_thread(agent: Agent, database: Database, url: str) -> None:
    stranger = start_run(database, url)
    agent.call("save_artifact", {"name": "secret.md", "content": "mine"})

    listed = stranger.call("list_artifacts")
    assert listed.structured_content == {"artifacts": [], "omitted": 0}
    read = stranger.call("read_artifact", {"name": "secret.md"})
    assert read.is_error
    saved = stranger.call("save_artifact", {"name": "secret.md", "content": "theirs"})
    assert saved.structured_content
    assert saved.structured_content["version"] == 1
    assert saved.structured_content["thread_id"] == stranger.thread_id
    assert said(agent.call("read_artifact", {"name": "secret.md"})) == "mine"


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("header", ["Mcp-Session-Id", "X-Forwarded-Authorization", "Cookie", "X-Longwick-Run-Id"])
def test_a6_nothing_beside_the_token_says_whose_a_request_is(
    agent: Agent, database: Database, url: str, header: str
) -> None:
    stranger = start_run(database, url)
    for claimed in (agent.session_id, agent.run_id, agent.token, f"session={agent.token}"):
        stranger.post(SAVE, {header: claimed})
        assert agent.call("list_artifacts").structured_content == {"artifacts": [], "omitted": 0}
        assert replace(stranger, token="lwk_none").post(SAVE, {header: claimed}).status_code == 401


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("naming", ["run_id", "thread_id", "session_id", "attempt", "owner"])
def test_a8_no_argument_can_name_another_run(agent: Agent, database: Database, url: str, naming: str) -> None:
    victim = start_run(database, url)
    arguments = {"name": "planted.md", "content": "from elsewhere", naming: getattr(victim, naming, "local")}
    answer = agent.call("save_artifact", arguments)
    assert answer.is_error
    assert naming in said(answer)
    assert victim.call("list_artifacts").structured_content == {"artifacts": [], "omitted": 0}


def test_a_later_run_of_the_thread_sees_what_an_earlier_one_saved(agent: Agent, database: Database, url: str) -> None:
    agent.call("save_artifact", {"name": "report.md", "content": "first"})
    database.write(settle(agent.run_id, agent.attempt))
    later = start_run(database, url, thread_id=agent.thread_id)
    assert said(later.call("read_artifact", {"name": "report.md"})) == "first"


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_record_that_does_not_answer_is_told_503(agent: Agent, settings: Settings, tmp_path: Path) -> None:
    gone = settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/no/such/folder/record.db"})
    with served(create_app(gone)) as url:
        answer = replace(agent, url=url).post(SAVE)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "no/such/folder" not in answer.text


def test_the_threads_owner_plays_no_part(database: Database, url: str) -> None:
    """A session is all that the server asks for: whoever owns the thread, the token is the right to it."""

    def work(db: Db) -> str:
        thread = threads.create(db, "somebody")
        return runs.create(db, thread, runs.NewRun(input="hello", agent="demo")).id

    agent = claim(database, url, database.write(work))
    assert agent.call("save_artifact", {"name": "a.txt", "content": "a"}).is_error is False


def test_a_cli_that_waits_for_its_attempt_sees_the_tools_and_can_use_none(agent: Agent, database: Database) -> None:
    token = sessions.new_token()
    database.write(lambda db: sessions.hold_token(db, token, 60))
    waiting = replace(agent, token=token)
    listed = waiting.post(request("tools/list"))
    assert "save_artifact" in listed.text
    refused = waiting.post(SAVE)
    assert refused.status_code == 200
    assert "has not begun" in refused.text


def test_the_token_of_a_cli_that_waits_is_a_session_once_it_is_taken_and_ends_in_time(
    agent: Agent, database: Database
) -> None:
    token, late = sessions.new_token(), sessions.new_token()
    database.write(lambda db: sessions.hold_token(db, token, 60))
    database.write(lambda db: sessions.hold_token(db, late, -1))
    assert is_refused(replace(agent, token=late))
    run = spawned_run(database)
    database.write(lambda db: sessions.open_session(db, run, 60, token))
    assert not database.read(lambda db: sessions.is_held(db, token))
    taken = replace(agent, token=token, run_id=run.id, thread_id=run.thread_id)
    assert "ARTIFACT_CREATED" in taken.post(SAVE).text
    database.write(settle(run.id, 1))
    assert is_refused(taken)
