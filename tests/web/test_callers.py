"""Who is let in: by a key, a sign-in of the page, a ticket, a proxy's word, or by being on this machine."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from documented import Serve
from scene import queued_run, running_run
from sqlalchemy import func, select, update
from starlette.testclient import TestClient
from waiting import wait_for

from longwick import cancellation, exposure, keys, passes, sessions
from longwick.database import Database, utc_now
from longwick.entrance import SignIn, Ticket
from longwick.errors import BadSetting
from longwick.kinds import Scope
from longwick.models import Run
from longwick.settings import Settings
from web.app import create_app
from web.throttle import MOST

pytestmark = pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)

API = "/api/v1"
OURS = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin", "x-longwick-page": "1"}
SSE = {"accept": "text/event-stream"}


def new_key(database: Database, owner: str = "ann", *scopes: Scope) -> str:
    return database.write(lambda db: keys.create(db, owner, scopes=scopes)).text


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def from_address(settings: Settings) -> Callable[..., TestClient]:
    """A client at an address, of a server with settings of its own."""

    def come(address: str, base: str = "http://127.0.0.1:8000", **more: object) -> TestClient:
        app = create_app(settings.model_copy(update=more))
        return TestClient(app, base, client=(address, 1), raise_server_exceptions=False)

    return come


def test_without_keys_whoever_is_on_this_machine_is_the_owner_and_with_the_first_nobody_is(
    client: TestClient, database: Database
) -> None:
    me = client.get(f"{API}/session").json()
    assert me == {"owner": "local", "scopes": ["admin", "read", "write"], "how": "local"}
    key = new_key(database, "local")
    wait_for(lambda: client.get(f"{API}/threads").status_code == 401, what="the key to count")
    assert client.get("/metrics").status_code == 401
    assert {client.get(path).status_code for path in ("/", "/healthz", "/readyz", "/api/openapi.json")} == {200}
    assert client.get(f"{API}/session", headers=bearer(key)).json()["how"] == "key"
    database.write(lambda db: keys.revoke(db, key.rpartition("_")[0]))
    assert client.get(f"{API}/threads").status_code == 401
    database.write(lambda db: keys.remove(db, key.rpartition("_")[0]))
    wait_for(lambda: client.get(f"{API}/threads").status_code == 200, what="nobody to be asked again")


@pytest.mark.parametrize("path", ["/metrics", f"{API}/threads"])
def test_a26_a_line_break_at_the_end_of_a_path_lets_nobody_in(
    client: TestClient, database: Database, path: str
) -> None:
    new_key(database)
    wait_for(lambda: client.get(path).status_code == 401, what="the key to count")
    assert client.get(f"{path}%0A").status_code == 404


def test_a39_whoever_is_refused_is_counted_too_and_so_is_who_signs_in(
    from_address: Callable[..., TestClient], database: Database
) -> None:
    reader, key = new_key(database, "bob", Scope.READ), new_key(database)
    for path, body, head, first in (
        ("runs", {"input": "hello"}, bearer(reader), 403),
        ("session", {"key": key}, {}, 200),
    ):
        # One may come at once, and the next in a hundred seconds.
        http = from_address("127.0.0.1", requests_per_second_per_owner=0.01)
        statuses = [http.post(f"{API}/{path}", json=body, headers=head).status_code for _ in range(2)]
        assert statuses == [first, 429]


def test_a39_a_key_has_only_so_many_sign_ins(client: TestClient, database: Database) -> None:
    key = new_key(database)

    def sign_in() -> str:
        signed_in = database.write(lambda db: passes.sign_in(db, key))
        assert signed_in
        return signed_in[1].token

    tokens = [sign_in()]
    database.write(lambda db: db.execute(update(SignIn).values(created_at=utc_now() - timedelta(hours=1))))
    tokens += [sign_in() for _ in range(passes.MOST_SIGN_INS)]
    assert database.read(lambda db: db.scalar(select(func.count()).select_from(SignIn))) == passes.MOST_SIGN_INS
    assert database.read(lambda db: passes.find_signed_in(db, tokens[0])) is None
    assert database.read(lambda db: passes.find_signed_in(db, tokens[-1]))


def test_a39_a_ticket_that_is_none_makes_nobody_write(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(database)
    wait_for(lambda: client.get(f"{API}/threads").status_code == 401, what="the key to count")
    monkeypatch.setattr(passes, "use_ticket", lambda *_: pytest.fail("something was written for a stranger"))
    assert client.get(f"{API}/feed?ticket=x", headers=SSE).json()["code"] == "bad_ticket"


def test_what_is_shown_is_looked_at_also_where_nothing_has_to_be(client: TestClient) -> None:
    assert client.get(f"{API}/threads", headers=bearer("x")).status_code == 401
    assert client.get(f"{API}/threads", headers={"authorization": "Basic eDp4"}).status_code == 200


def test_a_key_counts_from_its_making_to_its_revocation(client: TestClient, database: Database) -> None:
    key = new_key(database)
    for scheme in ("Bearer", "bearer"):
        assert client.get(f"{API}/threads", headers={"authorization": f"{scheme} {key}"}).status_code == 200
    twice = [("authorization", f"Bearer {key}"), ("authorization", f"Bearer {key}")]
    assert client.get(f"{API}/threads", headers=twice).status_code == 401
    wait_for(lambda: database.read(keys.list_keys)[0].last_used_at, what="its use to be noted")
    database.write(lambda db: keys.revoke(db, key.rpartition("_")[0]))
    refused = client.get(f"{API}/threads", headers=bearer(key))
    assert (refused.status_code, refused.json()["code"]) == (401, "bad_key")
    assert key not in refused.text


def test_a38_a_sign_in_has_a_new_secret_each_time_and_ends_with_its_key(client: TestClient, database: Database) -> None:
    key = new_key(database)
    client.cookies.set("longwick-8000", "planted")
    signed_in = client.post(f"{API}/session", json={"key": key}, headers=OURS)
    assert signed_in.json() == {"owner": "ann", "scopes": ["read", "write"], "how": "page"}
    cookie = signed_in.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert "Domain" not in cookie
    first = cookie.partition("=")[2].partition(";")[0]
    assert first not in ("planted", key)
    assert len(first) >= 43
    client.cookies.clear()
    client.cookies.set("longwick-8000", first)
    assert client.get(f"{API}/session").json()["how"] == "page"
    again = client.post(f"{API}/session", json={"key": key}, headers=OURS)
    second = again.headers["set-cookie"].partition("=")[2].partition(";")[0]
    for token, status in ((first, 401), (second, 200)):
        client.cookies.clear()
        client.cookies.set("longwick-8000", token)
        assert client.get(f"{API}/session").status_code == status
    with database.engine.connect() as connection:
        kept = str(connection.exec_driver_sql("SELECT * FROM sign_ins").all())
    assert second not in kept
    assert kept.count("key_") == 1
    database.write(lambda db: keys.revoke(db, key.rpartition("_")[0]))
    assert client.get(f"{API}/session").status_code == 401


def sign_in(client: TestClient, key: str) -> None:
    assert client.post(f"{API}/session", json={"key": key}, headers=OURS).status_code == 200


def test_who_signs_out_is_out_and_the_key_stays(client: TestClient, database: Database) -> None:
    key = new_key(database)
    sign_in(client, key)
    stolen = dict(client.cookies)
    assert client.delete(f"{API}/session", headers=OURS).status_code == 204
    assert not client.cookies
    client.cookies.update(stolen)
    assert client.get(f"{API}/session").status_code == 401
    assert client.get(f"{API}/session", headers=bearer(key)).status_code == 200


def test_a_sign_in_ends_by_itself(client: TestClient, database: Database) -> None:
    sign_in(client, new_key(database))
    past = utc_now() - timedelta(seconds=2)
    database.write(lambda db: db.execute(update(SignIn).values(expires_at=past)))
    assert client.get(f"{API}/session").status_code == 401
    short = database.write(lambda db: keys.create(db, "ann", lifetime=timedelta(hours=1)))
    signed_in = database.write(lambda db: passes.sign_in(db, short.text))
    assert signed_in is not None
    assert signed_in[1].expires_at == short.key.expires_at


def test_over_https_the_cookie_is_for_https_alone(database: Database, from_address: Callable[..., TestClient]) -> None:
    key = new_key(database)
    secure = {"origin": "https://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    with from_address("127.0.0.1", proxy_sources="127.0.0.1") as client:
        cookie = client.post(f"{API}/session", json={"key": key}, headers=secure).headers["set-cookie"]
        assert cookie.startswith("__Host-longwick-8000=")
        assert "; Secure" in cookie
        token = cookie.partition("=")[2].partition(";")[0]
        client.cookies.clear()
        forwarded = {"x-forwarded-proto": "https"}
        for name, status in (("__Host-longwick-8000", 200), ("longwick-8000", 401)):
            answer = client.get(f"{API}/session", headers={**forwarded, "cookie": f"{name}={token}"})
            assert answer.status_code == status, name


SITES = [
    {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    {"origin": "null"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "none"},
    {},
]


@pytest.mark.parametrize("site", SITES)
def test_a23_another_site_changes_nothing_with_our_cookie(
    client: TestClient, database: Database, site: dict[str, str]
) -> None:
    sign_in(client, new_key(database))
    run = client.post(f"{API}/runs", json={"input": "x"}, headers=OURS).json()
    paths = ("cancel", "retry", "input")
    for method, path in [("POST", f"runs/{run['id']}/{path}") for path in paths] + [
        ("DELETE", f"threads/{run['thread_id']}"),
        ("POST", f"threads/{run['thread_id']}/files"),
        ("POST", "runs"),
        ("DELETE", "session"),
    ]:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {**site, "content-type": kind}
            refused = client.request(method, f"{API}/{path}", content=b'{"input": "x"}', headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path
    found = client.get(f"{API}/runs").json()["data"]
    assert [(one["id"], one["status"]) for one in found] == [(run["id"], "queued")]


@pytest.mark.parametrize("more", [{}, {"content-type": "text/plain"}])
def test_a23_our_own_page_needs_its_header_where_it_sends_no_json(
    client: TestClient, database: Database, more: dict[str, str]
) -> None:
    sign_in(client, new_key(database))
    run = client.post(f"{API}/runs", json={"input": "x"}, headers=OURS).json()
    path = f"{API}/runs/{run['id']}/cancel"
    plain = {name: value for name, value in OURS.items() if name != "x-longwick-page"}
    assert client.post(path, headers={**plain, **more}).status_code == 403
    assert client.post(path, headers=OURS).status_code == 202


def test_a23_no_get_changes_anything(client: TestClient, database: Database) -> None:
    run = queued_run(database)
    before = database.engine.connect().exec_driver_sql("SELECT * FROM runs").all()
    for action in ("cancel", "retry", "input"):
        assert client.get(f"{API}/runs/{run.id}/{action}").status_code == 405
    for other in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        client.get(f"{API}/threads/{run.thread_id}", headers={other: "DELETE"}, params={"_method": "DELETE"})
    assert database.engine.connect().exec_driver_sql("SELECT * FROM runs").all() == before
    assert client.get(f"{API}/threads/{run.thread_id}").status_code == 200


def test_a39_who_guesses_keys_has_to_wait(from_address: Callable[..., TestClient], database: Database) -> None:
    key = new_key(database)
    with from_address("192.0.2.1", proxy_sources="192.0.2.9") as client:
        guesses = [client.post(f"{API}/session", json={"key": f"guess {n}"}) for n in range(MOST + 2)]
        assert [guess.status_code for guess in guesses] == [401] * MOST + [429] * 2
        assert 1 <= int(guesses[-1].headers["retry-after"]) <= 60
        # The right one has to wait, too; what somebody says of where they are is no way around it.
        again = client.post(f"{API}/session", json={"key": key}, headers={"x-forwarded-for": "198.51.100.1"})
        assert again.status_code == 429
        assert client.get(f"{API}/session", headers=bearer(key)).status_code == 200


def test_a39_a_proxy_says_whose_guesses_they_are(from_address: Callable[..., TestClient], database: Database) -> None:
    key = new_key(database)

    def guess(client: TestClient, text: str, *via: str) -> int:
        return client.post(
            f"{API}/session", json={"key": text}, headers={"x-forwarded-for": ", ".join(via)}
        ).status_code

    with from_address("10.0.0.1", proxy_sources="10.0.0.0/8") as client:
        for n in range(MOST + 1):
            # What its client has made up stands to the left of what the proxy has added.
            last = guess(client, "x", f"198.51.100.{n}", "192.0.2.1", "10.0.0.7")
        assert last == 429
        assert guess(client, key, "192.0.2.2") == 200


def test_a24_a_key_in_an_address_is_refused_and_stands_in_no_log(
    client: TestClient, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    key = new_key(database)
    with caplog.at_level(logging.DEBUG):
        for path in (f"/feed?ticket={key}", f"/feed?api_key={key}", f"/threads?q={key}", f"/runs/{key}"):
            refused = client.get(API + path, headers=bearer(key))
            assert (refused.status_code, refused.json()["code"]) == (400, "key_in_url")
    assert key not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("web"))


def test_a24_a_ticket_opens_one_stream_once(client: TestClient, database: Database) -> None:
    key, run, other = new_key(database, "ann", Scope.READ), queued_run(database), queued_run(database)
    for one in (run, other):
        database.write(partial(cancellation.request, owner=one.owner, run_id=one.id))
    database.write(lambda db: db.execute(update(Run).values(owner="ann")))
    path = f"{API}/runs/{run.id}/events"

    def ticket() -> str:
        made = client.post(f"{API}/tickets", json={"run_id": run.id}, headers=bearer(key))
        assert made.status_code == 201
        assert made.json()["url"] == f"{path}?ticket={made.json()['ticket']}"
        given: str = made.json()["ticket"]
        return given

    def opens(where: str, given: str, **headers: str) -> int:
        return client.get(where, params={"ticket": given}, headers={**SSE, **headers}).status_code

    given = ticket()
    assert opens(f"{API}/runs/{other.id}/events", given) == 401
    assert opens(f"{API}/feed", given) == 401
    assert opens(f"{API}/runs/{run.id}", given) == 401
    assert opens(path, given, accept="application/json") == 401
    assert opens(path, given) == 200
    assert opens(path, given) == 401
    late = ticket()
    past = utc_now() - timedelta(seconds=2)
    database.write(lambda db: db.execute(update(Ticket).values(expires_at=past)))
    assert opens(path, late) == 401
    of_nobody = ticket()
    database.write(lambda db: keys.revoke(db, key.rpartition("_")[0]))
    assert opens(path, of_nobody) == 401


PROXY = {"proxy_sources": "10.0.0.0/8, ::1", "proxy_user_header": "X-User"}


def test_whom_a_trusted_proxy_names_is_let_in(from_address: Callable[..., TestClient], database: Database) -> None:
    with from_address("10.1.2.3", **PROXY) as client:
        me = client.get(f"{API}/session", headers={"x-user": "ann@example.org"}).json()
        assert me == {"owner": "ann@example.org", "scopes": ["read", "write"], "how": "proxy"}
        assert client.get("/metrics", headers={"x-user": "ann"}).status_code == 403
        made = client.post(f"{API}/threads", json={}, headers={"x-user": "ann", **OURS})
        assert made.status_code == 201
        assert client.get(made.headers["location"], headers={"x-user": "bob"}).status_code == 404
        # A proxy's word is with every request of a browser, as a cookie is.
        assert client.post(f"{API}/threads", json={}, headers={"x-user": "ann"}).status_code == 403
        two = [("x-user", "ann"), ("x-user", "bob")]
        for named in (two, [("x-user", "")], [("x-user", "a b")], [("x-user", "../x")], []):
            assert client.get(f"{API}/threads", headers=named).status_code == 401, named
        key = new_key(database, "carl")
        assert client.get(f"{API}/session", headers={"x-user": "ann", **bearer(key)}).json()["owner"] == "carl"


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.1", "11.0.0.1", "testclient"])
def test_nobody_else_is_believed_to_be_the_proxy(from_address: Callable[..., TestClient], address: str) -> None:
    with from_address(address, **PROXY) as client:
        for headers in ({"x-user": "ann"}, {"x-user": "ann", "x-forwarded-for": "10.0.0.1"}, {}):
            assert client.get(f"{API}/threads", headers=headers).status_code == 401


def test_a4_it_answers_to_its_own_names_alone(from_address: Callable[..., TestClient], database: Database) -> None:
    with from_address("127.0.0.1", public_hosts="Agents.example.org, other.example") as client:
        client.headers.update(bearer(new_key(database)))
        for host, status in {
            "agents.example.org": 200,
            "AGENTS.EXAMPLE.ORG:443": 200,
            "other.example": 200,
            "evil.example": 421,
            "agents.example.org.evil.example": 421,
            "example.org": 421,
        }.items():
            assert client.get(f"{API}/threads", headers={"host": host}).status_code == status, host
            foreign = {"host": host, "origin": "https://evil.example"}
            refused = client.get(f"{API}/threads", headers=foreign)
            assert refused.status_code in (403, 421)
            assert "access-control-allow-origin" not in refused.headers


def test_where_others_can_reach_it_being_there_lets_nobody_in(from_address: Callable[..., TestClient]) -> None:
    with from_address("127.0.0.1", host="0.0.0.0") as client:
        assert client.get(f"{API}/threads").status_code == 401
        assert client.get("/metrics").status_code == 401


def test_who_comes_through_a_proxy_from_elsewhere_is_not_on_this_machine(
    from_address: Callable[..., TestClient],
) -> None:
    with from_address("127.0.0.1", public_hosts="agents.example.org", proxy_sources="127.0.0.1") as client:
        for headers, status in (
            ({}, 200),
            ({"x-forwarded-for": "127.0.0.1"}, 200),
            ({"x-forwarded-for": "192.0.2.1"}, 401),
            ({"x-forwarded-for": "127.0.0.1, 192.0.2.1"}, 401),
            ({"x-forwarded-for": "unknown"}, 401),
            ({"host": "agents.example.org"}, 401),
        ):
            assert client.get(f"{API}/threads", headers=headers).status_code == status, headers
            assert client.get("/metrics", headers=headers).status_code == status, headers


def test_an_address_that_others_reach_needs_a_key_or_a_proxy(settings: Settings, database: Database) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        exposure.check_bind(settings, host, database)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", ""):
        with pytest.raises(BadSetting, match="there is no key yet"):
            exposure.check_bind(settings, host, database)
        exposure.check_bind(settings.model_copy(update=PROXY), host, database)
    assert exposure.in_words(settings, database) == "whoever is on this machine, as `local`: there are no keys"
    key = new_key(database)
    exposure.check_bind(settings, "0.0.0.0", database)
    assert exposure.in_words(settings, database) == "1 of 1 keys, of ann"
    database.write(lambda db: keys.revoke(db, key.rpartition("_")[0]))
    assert exposure.in_words(settings, database) == "no key: all are over"


def test_a9_a_token_of_a_run_is_no_sign_in(client: TestClient, database: Database) -> None:
    run = running_run(database)
    token = database.write(lambda db: sessions.open_session(db, run, 60)).token
    assert client.post(f"{API}/session", json={"key": token}).status_code == 401
    client.cookies.set("longwick-8000", token)
    new_key(database)
    wait_for(lambda: client.get(f"{API}/session").status_code == 401, what="the key to count")


def test_a46_nothing_leads_elsewhere_and_nobody_frames_the_page(client: TestClient) -> None:
    for path in ("//evil.example", "/%2f%2fevil.example", "/?next=//evil.example", f"{API}/session?redirect=//evil"):
        answer = client.get(path, follow_redirects=False)
        assert not answer.has_redirect_location, path
        assert "evil" not in answer.headers.get("location", "")
    page = client.get("/").headers
    assert "frame-ancestors 'none'" in page["content-security-policy"]
    assert page["cross-origin-opener-policy"] == "same-origin"


def test_figures_are_to_be_had_also_while_the_record_is_away(
    serve: Serve, settings: Settings, database: Database
) -> None:
    scraper = new_key(database, "operator", Scope.ADMIN)
    client = serve(settings)
    assert client.get("/metrics", headers=bearer(scraper)).status_code == 200
    client.app.state.database._silent_until = float("inf")  # type: ignore[attr-defined] # the type of any application
    assert client.get("/metrics", headers=bearer(scraper)).status_code == 200
    assert client.get("/metrics", headers=bearer(new_key(database, "ann", Scope.ADMIN))).status_code == 503
    assert client.get("/metrics").status_code in (401, 503)
    assert client.get(f"{API}/threads", headers=bearer(scraper)).status_code == 503
