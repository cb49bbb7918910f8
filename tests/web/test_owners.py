"""Every route of the route table, asked by nobody, by a key without the scope, by a run's token and by another owner.

A route that is added fails a test here until it is said what it is: see `PUBLIC` and those after it.
"""

import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from documented import DOCUMENT, Serve
from fastapi.routing import iter_route_contexts
from httpx2 import Response
from scene import new_thread, running_run
from starlette.testclient import TestClient

from longwick import approvals, artifacts, events, keys, passes, sessions, threads
from longwick.database import Database
from longwick.events import Event, EventType
from longwick.keys import LOCAL
from longwick.kinds import Scope
from longwick.settings import Settings
from longwick.storage import FolderStorage
from longwick.values import inline_or_refer
from web.callers import SAFE_METHODS

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)

API = "/api/v1"
SECRET = "a secret of ann's"
PUBLIC = {"GET /healthz", "HEAD /healthz", "GET /readyz", "HEAD /readyz", "GET /api/openapi.json"}
PUBLIC |= {"HEAD /api/openapi.json", f"POST {API}/session"}
"""Whoever asks is answered."""
OF_THE_SERVER = {"GET /metrics"}
"""The operator's: for the scope `admin` alone."""
OF_THE_CALLER = {f"GET {API}/session", f"DELETE {API}/session"}
"""Of who asks and of nothing else, whatever the scopes."""
OF_NOBODY = {f"GET {API}/agents", f"POST {API}/threads", f"POST {API}/runs", f"POST {API}/tickets"}
"""Of no one's things: the same for all, or it makes something."""
ELSEWHERE = {f"GET {API}/feed", f"GET {API}/usage"}
"""The caller's own, with tests of their own: tests/web/test_presence.py, tests/web/test_usage.py."""
LISTS = {f"GET {API}/threads", f"GET {API}/runs", f"GET {API}/approvals"}
"""What is the caller's, and empty for who has nothing."""
BODIES = {
    "ThreadChange": {"title": "x"},
    "Verdict": {"decision": "allow"},
    "KeyShown": {"key": "x"},
    "TicketWanted": {},
    "NewThread": {},
}
"""What is sent where a body is no run request or change of one."""


@dataclass(frozen=True)
class Scene:
    """A server on which ann has one of everything, and bob nothing."""

    client: TestClient
    database: Database
    ids: dict[str, str]
    ann: str
    bob: str
    run_token: str

    def key(self, owner: str, *scopes: Scope) -> str:
        return self.database.write(lambda db: keys.create(db, owner, scopes=scopes)).text

    def ask(self, route: str, ids: dict[str, str], key: str | None, **headers: str) -> Response:
        """Ask a route of the table, with a body that it takes."""
        method, _, path = route.partition(" ")
        told = DOCUMENT["paths"].get(path, {}).get(method.lower(), {})
        sent = told.get("requestBody", {}).get("content", {})
        named = sent["application/json"]["schema"] if "application/json" in sent else {}
        body = BODIES.get(str(named).rpartition("/")[2].rstrip("'}]"), {"input": "hello"}) if named else None
        files = {"file": ("a.txt", b"x")} if "multipart/form-data" in sent else None
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return self.client.request(method, path.format(**ids), json=body, files=files, headers=headers)


@pytest.fixture
def scene(serve: Serve, settings: Settings, database: Database) -> Scene:
    ann, bob = (database.write(partial(keys.create, owner=owner)).text for owner in ("ann", "bob"))
    run = running_run(database, database.write(lambda db: threads.create(db, "ann", title=SECRET)), text=SECRET)
    session = database.write(lambda db: sessions.open_session(db, run, 60))
    storage = FolderStorage(settings.blobs)
    stored = storage.put([SECRET.encode()], limit=100)
    save = artifacts.Save("secret.html", "text/html", stored)
    artifact = database.write(lambda db: artifacts.save(db, session.id, save, artifacts.Quota(9, 2**20)))
    approval = database.write(lambda db: approvals.request(db, run, "Bash", {"command": SECRET}, 60))
    large = Event(EventType.TOOL_COMPLETED, {"tool_call_id": "1", "output": SECRET * 20_000, "is_error": False})
    told = inline_or_refer(database, storage, large)
    database.write(lambda db: events.append(db, run.id, run.attempt, [told]))
    seq = str(database.read(lambda db: events.read(db, run.id, 0))[-1].last_seq)
    ids = {"thread_id": run.thread_id, "run_id": run.id, "artifact_id": artifact.id, "approval_id": approval.id}
    return Scene(serve(settings), database, {**ids, "seq": seq}, ann, bob, session.token)


def table(client: TestClient) -> list[str]:
    """All routes that there are, each with a method of it."""
    routes = iter_route_contexts(client.app.routes)  # type: ignore[attr-defined] # the type of any ASGI application
    return sorted(f"{method} {route.path}" for route in routes for method in route.methods or ())


def test_every_route_is_said_to_be_somebodys_or_everybodys(scene: Scene) -> None:
    named = {route for route in table(scene.client) if "{" not in route}
    assert named == PUBLIC | OF_THE_SERVER | OF_THE_CALLER | OF_NOBODY | ELSEWHERE | LISTS
    assert len(table(scene.client)) > len(named) + 20


def test_a25_without_a_key_every_route_but_the_public_ones_is_closed(scene: Scene) -> None:
    wrong = scene.ann[:-1] + ("0" if scene.ann[-1] != "0" else "1")
    revoked = scene.key("ann")
    scene.database.write(lambda db: keys.revoke(db, revoked.rpartition("_")[0]))
    for route in table(scene.client):
        for key in (None, wrong, revoked, "x"):
            answer = scene.ask(route, scene.ids, key)
            if route in PUBLIC:
                assert answer.status_code == (401 if route.endswith("/session") else 200), route
                continue
            assert answer.status_code == 401, route
            assert answer.headers["www-authenticate"] == "Bearer"
            if not route.startswith("HEAD"):
                assert answer.json()["code"] == ("unauthenticated" if key is None else "bad_key")


def test_a9_a_token_of_a_run_opens_nothing_here(scene: Scene) -> None:
    for route in set(table(scene.client)) - PUBLIC:
        assert scene.ask(route, scene.ids, scene.run_token).status_code == 401, route


def test_a25_what_is_somebody_elses_is_as_if_it_were_not_there(scene: Scene) -> None:
    """For every route with an id in its path, byte by byte what is said of an id that nobody has."""
    missing = {name: id_[:4] + "0" * 26 if name != "seq" else id_ for name, id_ in scene.ids.items()}
    asked = 0
    for route in table(scene.client):
        names = re.findall(r"\{(\w+)\}", route)
        for headers in ({}, {"accept": "text/event-stream"}) if names else ():
            answers = []
            for ids in (scene.ids, missing):
                answer = scene.ask(route, ids, scene.bob, **headers)
                assert answer.status_code == 404, route
                told = answer.text.replace(answer.headers["x-request-id"], "")
                for name in names:
                    told = told.replace(ids[name], name)
                answers.append(told)
            assert answers[0] == answers[1]
            asked += 1
    assert asked == 2 * len([route for route in table(scene.client) if "{" in route]) > 44


def test_a25_lists_have_what_is_ones_own_and_no_more(scene: Scene) -> None:
    for route in LISTS:
        assert scene.ask(route, {}, scene.bob).json()["data"] == [], route
        assert len(scene.ask(route, {}, scene.ann).json()["data"]) == 1, route
    theirs = {"authorization": f"Bearer {scene.bob}"}
    for query in (f"runs?thread_id={scene.ids['thread_id']}", "threads?q=secret", "approvals?status=pending"):
        assert scene.client.get(f"{API}/{query}", headers=theirs).json()["data"] == []
    cursor = scene.client.get(f"{API}/runs?after={scene.ids['run_id']}", headers=theirs)
    assert SECRET not in cursor.text
    ticket = scene.client.post(f"{API}/tickets", headers=theirs, json={"run_id": scene.ids["run_id"]})
    assert ticket.status_code == 404
    follows = {"input": "x", "follows": scene.ids["run_id"]}
    assert SECRET not in scene.client.post(f"{API}/runs", headers=theirs, json=follows).text


def test_the_owner_gets_all_of_it(scene: Scene) -> None:
    """So that what others do not get is there to be had."""
    for route in table(scene.client):
        if route.startswith("GET") and "{" in route:
            answer = scene.ask(route, scene.ids, scene.ann, **{"sec-fetch-dest": "iframe"})
            assert answer.status_code == 200, route


def test_a_key_does_what_its_scopes_say(scene: Scene) -> None:
    read, write, admin = (scene.key("bob", scope) for scope in Scope)
    for route in set(table(scene.client)) - PUBLIC - OF_THE_CALLER - {f"GET {API}/feed"}:
        method = route.partition(" ")[0]
        needed = Scope.WRITE if method not in SAFE_METHODS else Scope.READ
        needed = {f"POST {API}/tickets": Scope.READ, "GET /metrics": Scope.ADMIN}.get(route, needed)
        for scope, key in ((Scope.READ, read), (Scope.WRITE, write), (Scope.ADMIN, admin)):
            answer = scene.ask(route, scene.ids, key)
            assert (answer.status_code == 403) == (scope != needed), (route, scope)
            if scope != needed and method != "HEAD":
                assert answer.json()["code"] == "scope_missing"
    for key in (read, write, admin):
        assert scene.ask(f"GET {API}/session", {}, key).json()["owner"] == "bob"


def test_a26_figures_are_for_the_operator_once_there_are_keys(scene: Scene) -> None:
    assert scene.ask("GET /metrics", {}, None).status_code == 401
    assert scene.ask("GET /metrics", {}, scene.ann).status_code == 403
    figures = scene.ask("GET /metrics", {}, scene.key("operator", Scope.ADMIN))
    assert figures.status_code == 200
    assert not any(words in figures.text for words in ("ann", SECRET, scene.ids["run_id"]))


def test_one_owner_may_have_any_number_of_keys_and_local_is_an_owner_like_others(
    scene: Scene, database: Database
) -> None:
    new_thread(database, owner=LOCAL)
    assert len(scene.ask(f"GET {API}/threads", {}, scene.key(LOCAL)).json()["data"]) == 1
    assert len(scene.ask(f"GET {API}/threads", {}, scene.key("ann", Scope.READ)).json()["data"]) == 1


def test_a_ticket_is_no_key(scene: Scene) -> None:
    given: Any = scene.database.write(lambda db: passes.ticket(db, "ann", f"{API}/feed", passes.Hold()))
    for route in set(table(scene.client)) - PUBLIC - {f"GET {API}/feed"}:
        method, _, path = route.partition(" ")
        answer = scene.client.request(method, f"{path.format(**scene.ids)}?ticket={given.token}")
        assert answer.status_code == 401, route
