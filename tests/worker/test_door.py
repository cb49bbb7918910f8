"""The door of a sandbox, as what is in there meets it: our tools, the gateway, and the hosts of the profile."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings as any_of
from hypothesis import strategies as st
from mcp_agent import served, start_run
from prometheus_client import REGISTRY
from providers.anthropic import Anthropic
from pydantic import ValidationError
from waiting import wait_for

from longwick import metrics
from longwick.database import Database
from longwick.places import is_public, parse_place
from longwick.profiles import Profile
from longwick.settings import Settings
from mcp_server.app import create_app
from worker.door import Door
from worker.egress import NotLetOut, wanted
from worker.gateway import Gateway
from worker.passes import MOST_NOTICES, Pass

Open = Callable[..., contextlib.AbstractContextManager["Inside"]]


@pytest.fixture
def engine_name() -> str:
    """Nothing here depends on what is behind the tools."""
    return "sqlite"


class Inside:
    """What is in the sandbox: it has a socket to the door, and nothing else."""

    def __init__(self, path: str, given: Pass) -> None:
        self.path = path
        self.given = given

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(10)
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return connection

    def say(self, said: bytes) -> bytes:
        """What comes back until the other side closes."""
        with self.connect() as connection:
            connection.sendall(said)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def refusals(self) -> list[str]:
        return [event.data["message"] for event in self.given.take() if event.data.get("code") == "egress_refused"]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway("http://127.0.0.1:9/mcp") as gateway:
        yield gateway


@pytest.fixture
def door(gateway: Gateway, tmp_path: Path) -> Open:
    @contextlib.contextmanager
    def door(of: Gateway = gateway, **more: Any) -> Iterator[Inside]:
        profile = Profile.model_validate({"adapter": "claude", "command": ["cli"], **more})
        path = tmp_path / "door"
        with socket.socket(socket.AF_UNIX) as listening, of.issued(profile) as given:
            listening.bind(str(path))
            listening.listen()
            given.bind("run_1", 1)
            with Door(of, given, listening):
                yield Inside(str(path), given)

    return door


class Site(BaseHTTPRequestHandler):
    """A site on loopback."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, dict[str, str]]]

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.asked.append((self.command, self.path, headers))
        body = self.rfile.read(int(headers.get("content-length", 0))) or b"here"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[int, list[tuple[str, str, dict[str, str]]]]]:
    """Its port, and what it was asked."""
    Site.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_address[1], Site.asked
    server.shutdown()
    server.server_close()


def get(path: str, host: str = "sandbox", **headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# Our own


def test_one_connection_reaches_the_tools_and_the_models_in_turn(
    settings: Settings, database: Database, door: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(create_app(settings)) as url, Anthropic() as provider, Gateway(url) as gateway, door(gateway) as inside:
        agent = start_run(database, url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-the-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
        listed = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}'
        asked = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
        mcp = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}

        def post(path: str, token: str, body: bytes, **headers: str) -> bytes:
            headers |= {"authorization": f"Bearer {token}", "content-type": "application/json"}
            return get(path, **headers, **{"content-length": str(len(body))}).replace(b"GET", b"POST", 1) + body

        with inside.connect() as connection:
            file = connection.makefile("rb")
            said: list[bytes] = []
            for request, end in (
                (post("/mcp", agent.token, listed, **mcp), b"0\r\n"),
                (post("/mcp", "another", listed, **mcp), b"}"),
                (post("/anthropic/v1/messages", inside.given.token, asked), b"}"),
            ):
                connection.sendall(request)
                head = b"".join(iter(file.readline, b"\r\n"))
                length = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
                body = file.read(int(length[0].split(b":")[1])) if length else b""
                while not length and not body.endswith(end + b"\r\n"):
                    body += file.readline()
                said.append(head.splitlines()[0] + body)
        assert b" 200" in said[0].partition(b"\r\n")[0][:13]
        assert b"save_artifact" in said[0]
        assert b" 401" in said[1][:13]
        assert b'"hello"' in said[2]


def test_a_door_that_is_closed_lets_nothing_through(door: Open, site: Any) -> None:
    port, _ = site
    with door(egress=[f"127.0.0.1:{port}"]) as inside:
        tunnel, idle = inside.connect(), inside.connect()
        tunnel.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        assert tunnel.recv(1000).startswith(b"HTTP/1.1 200")
    for connection in (tunnel, idle):
        with connection, contextlib.suppress(ConnectionError):
            assert connection.recv(1000) == b""
    with pytest.raises(ConnectionError):
        inside.connect()


def test_a40_a_head_without_end_is_not_kept(door: Open) -> None:
    with door() as inside, inside.connect() as connection:
        connection.sendall(b"POST /mcp HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall(b"X: a\r\n" * 2**21)


def test_a39_one_sandbox_has_no_more_connections_than_its_share(door: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.door.MOST_CONNECTIONS", 2)
    with door() as inside, inside.connect() as first, inside.connect(), inside.connect() as third:
        with contextlib.suppress(ConnectionError):
            assert third.recv(1000) == b""
        first.close()
        ask = get("/nowhere", Connection="close")
        wait_for(lambda: b"404" in said_at_all(inside, ask), what="room for another")


def said_at_all(inside: Inside, said: bytes) -> bytes:
    """What comes back, or nothing where the door lets go at once."""
    try:
        return inside.say(said)
    except ConnectionError:
        return b""


def test_a39_one_sandbox_has_no_more_in_the_worker_s_memory_than_its_share(
    door: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.relay.MOST_HELD_BYTES", 100_000)
    begun = (
        get("/mcp", **{"Content-Length": "90000", "Connection": "close"}).replace(b"GET", b"POST", 1) + b"x" * 60_000
    )
    with door() as inside:
        with inside.connect() as first, inside.connect() as second:
            for connection in (first, second):
                connection.sendall(begun)
            # Whichever of them is read last.
            [refused] = select.select([first, second], [], [], 10)[0]
            assert refused.recv(100).startswith(b"HTTP/1.1 413")
        # What they held is free again: this one is passed on, to where nobody listens.
        wait_for(lambda: b" 502 " in said_at_all(inside, begun + b"x" * 30_000)[:20], what="room for another")


# Out


def test_a_listed_host_is_reached_through_a_tunnel(door: Open, site: Any) -> None:
    port, asked = site
    with door(egress=[f"127.0.0.1:{port}"]) as inside, inside.connect() as connection:
        # The first words for the host may come at once.
        connection.sendall(
            f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + get("/a", Connection="close")
        )
        said = b"".join(iter(lambda: connection.recv(65536), b""))
        assert inside.refusals() == []
    assert said.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
    assert said.endswith(b"here")
    assert asked[-1][:2] == ("GET", "/a")


def test_a_listed_host_is_asked_as_by_a_proxy_one_request_a_connection(door: Open, site: Any) -> None:
    port, asked = site
    with door(egress=[f"127.0.0.1:{port}"]) as inside:
        first = get(f"http://127.0.0.1:{port}/b?c=d", "other.example", **{"Proxy-Authorization": "x", "X-Mine": "1"})
        said = inside.say(first + get("http://evil.example/"))
    assert said.count(b"HTTP/1.1 200 OK") == 1
    method, path, headers = asked[-1]
    assert (method, path) == ("GET", "/b?c=d")
    assert (headers["host"], headers["x-mine"], headers["connection"]) == (f"127.0.0.1:{port}", "1", "close")
    assert "proxy-authorization" not in headers


def test_a_client_that_uses_its_proxy_for_everything_reaches_the_gateway(gateway: Gateway) -> None:
    profile = Profile(adapter="claude", command=["cli"])
    with socket.create_server(("127.0.0.1", 0)) as listening, gateway.issued(profile) as given:
        host, port = listening.getsockname()
        with Door(gateway, given, listening):
            for said in (
                get(f"http://{host}:{port}/nowhere"),
                f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode() + get("/nowhere", Connection="close"),
            ):
                with socket.create_connection((host, port), 10) as connection:
                    connection.sendall(said)
                    answer = b"".join(iter(lambda connection=connection: connection.recv(65536), b""))  # type: ignore[misc]
                    assert b"the gateway has no GET /nowhere" in answer
        assert given.take() == []


def test_a_tunnel_whose_far_end_breaks_off_breaks_off(door: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as far:
        port = far.getsockname()[1]
        with door(egress=[f"127.0.0.1:{port}"]) as inside, inside.connect() as connection:
            connection.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
            end, _ = far.accept()
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1000) == b""


A34 = {
    "another host": b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n",
    "another port": b"CONNECT mirror.example:80 HTTP/1.1\r\n\r\n",
    "a longer name": b"CONNECT mirror.example.evil.example:443 HTTP/1.1\r\n\r\n",
    "a name within": b"CONNECT notmirror.example:443 HTTP/1.1\r\n\r\n",
    "a name cut by NUL": b"CONNECT evil.example\x00mirror.example:443 HTTP/1.1\r\n\r\n",
    "a name ended by NUL": b"CONNECT mirror.example\x00.evil.example:443 HTTP/1.1\r\n\r\n",
    "a space in it": b"CONNECT mirror.example:443 evil.example:443 HTTP/1.1\r\n\r\n",
    "a tab in it": b"CONNECT mirror.example:443\tHTTP/1.1 HTTP/1.1\r\n\r\n",
    "a user before it": b"CONNECT mirror.example:443@evil.example:443 HTTP/1.1\r\n\r\n",
    "the cloud's metadata": b"CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n",
    "the metadata as a number": b"CONNECT 2852039166:80 HTTP/1.1\r\n\r\n",
    "the metadata, asked plainly": b"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\n\r\n",
    "loopback": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n",
    "loopback in hexadecimal": b"CONNECT 0x7f.1:443 HTTP/1.1\r\n\r\n",
    "mapped loopback": b"CONNECT [::ffff:127.0.0.1]:22 HTTP/1.1\r\n\r\n",
    "a scheme that is none": b"GET https://mirror.example/ HTTP/1.1\r\n\r\n",
    "SOCKS": b"\x04\x01\x01\xbb\x00\x00\x00\x01 mirror.example\x00\r\n\r\n",
    "no port": b"CONNECT mirror.example HTTP/1.1\r\n\r\n",
    "nothing": b"CONNECT  HTTP/1.1\r\n\r\n",
    "no end": b"CONNECT " + b"a" * 100_000,
}


@pytest.mark.parametrize("said", A34.values(), ids=A34)
def test_a34_whatever_is_not_listed_fails_at_once_and_is_recorded(said: bytes, door: Open) -> None:
    counted = metrics.EGRESS.labels("refused")
    before = counted._value.get()
    with door(egress=["mirror.example:443"]) as inside:
        assert inside.say(said).startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert len(inside.refusals()) == 1
    assert counted._value.get() == before + 1


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
def test_a35_a_listed_name_that_leads_to_a_private_address_is_refused_after_resolution(
    host: str, door: Open, site: Any
) -> None:
    port, asked = site
    before = len(asked)
    with door(egress=[f"localhost:{port}"]) as inside:
        assert inside.say(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode()).startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert "leads to a private address" in inside.refusals()[0]
    assert len(asked) == before


def test_a34_the_same_refusal_is_recorded_once_and_many_are_not(door: Open) -> None:
    with door() as inside:
        for number in range(MOST_NOTICES + 5):
            for _ in range(2):
                inside.say(f"CONNECT host{number}.example:443 HTTP/1.1\r\n\r\n".encode())
        assert len(inside.refusals()) == MOST_NOTICES


def test_a_listed_host_that_does_not_answer_is_a_bad_gateway(door: Open) -> None:
    name, labels = "longwick_egress_connections_total", {"outcome": "unreachable"}
    before = REGISTRY.get_sample_value(name, labels) or 0
    with door(egress=["127.0.0.1:9"]) as inside:
        assert inside.say(b"CONNECT 127.0.0.1:9 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 502 ")
        assert inside.refusals() == []
    assert REGISTRY.get_sample_value(name, labels) == before + 1


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *(
            "::1",
            "fe80::1",
            "fe80::1%eth0",
            "fd00:ec2::254",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "::",
        ),
        *("255.255.255.255", "192.0.2.2", "no address"),
    ],
)
def test_a35_private_addresses_are_private_in_every_spelling(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "151.101.0.223", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "listed", ["mirror.example", "*.mirror.example:443", "https://mirror.example:443", "mirror.example:0", "a b:1", ""]
)
def test_an_operator_lists_hosts_and_ports_without_patterns(listed: str) -> None:
    with pytest.raises(ValidationError, match="no host and port"):
        Profile(adapter="claude", command=["cli"], egress=[listed])


@pytest.mark.parametrize("listed", ["169.254.169.254:80", "[fe80::1]:80", "0.0.0.0:80"])
def test_a34_an_operator_cannot_list_the_metadata_of_the_cloud(listed: str) -> None:
    with pytest.raises(ValidationError, match="no agent gets there"):
        Profile(adapter="claude", command=["cli"], egress=[listed])


def test_the_servers_of_a_profile_need_not_be_listed_again() -> None:
    servers = {"wiki": {"url": "https://wiki.example/mcp"}, "near": {"url": "http://near.example:8080/mcp"}}
    profile = Profile.model_validate({"adapter": "claude", "command": ["cli"], "mcp_servers": servers})
    assert profile.egress_places == {("wiki.example", 443), ("near.example", 8080)}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://169.254.169.254/mcp", "no agent gets there"),
        ("https://me:secret@wiki.example/mcp", "no user and no password"),
        ("wiki.example/mcp", "no host and port"),
    ],
)
def test_a34_a_server_is_listed_by_the_same_rules(url: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Profile.model_validate({"adapter": "claude", "command": ["cli"], "mcp_servers": {"wiki": {"url": url}}})


HEADS = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda method, target, rest: method + b" " + target + b" HTTP/1.1\r\n" + rest + b"\r\n\r\n",
        st.sampled_from([b"CONNECT", b"GET", b"POST", b"connect", b"X"]),
        st.one_of(
            st.binary(max_size=60),
            st.text("pyiorg.:@/[]%0123456789\x00 \t\u2024", max_size=30).map(str.encode),
            st.text("abc.:01234", max_size=20).map(lambda text: f"http://{text}/".encode()),
        ),
        st.binary(max_size=60),
    ),
)


@any_of(deadline=None)
@given_any(HEADS)
def test_a34_a_request_to_be_let_out_means_one_place_or_none(head: bytes) -> None:
    try:
        (host, port), opening = wanted(head)
    except NotLetOut:
        return
    # Read again by its name alone, it is the same place: no two readings.
    assert parse_place(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") == (host, port)
    line = head.partition(b"\r\n")[0]
    assert host.encode() in line.lower() or ":" in host
    assert not set(host) & set("\x00 \t\r\n@/#?%\\")
    assert opening == b"" or b"\r\nConnection: close\r\n" in opening


@any_of(deadline=None)
@given_any(st.binary(min_size=1, max_size=300))
def test_a_door_takes_any_bytes(said: bytes) -> None:
    """The parser of HTTP is behind it, or the reader of proxies; none of them may end the gateway."""
    _throw(said)


class _Shared:
    inside: Inside


def _throw(said: bytes) -> None:
    with _Shared.inside.connect() as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(65536) is not None


@pytest.fixture(autouse=True, scope="module")
def _shared(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    path = tmp_path_factory.mktemp("shared") / "door"
    with (
        socket.socket(socket.AF_UNIX) as listening,
        gateway.issued(Profile(adapter="claude", command=["cli"])) as given,
    ):
        listening.bind(str(path))
        listening.listen()
        with Door(gateway, given, listening):
            _Shared.inside = Inside(str(path), given)
            yield
            # It still answers.
            assert wait_for(lambda: _Shared.inside.say(get("/", Connection="close")), what="an answer").startswith(
                b"HTTP/1.1 404"
            )
