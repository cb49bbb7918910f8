"""Requests that two readers could take for different ones, on the real server's socket."""

import re
import socket
from urllib.parse import urlsplit

import pytest
from stack import Stack

HEAD = "POST /api/v1/threads HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/json\r\n"
GET = "GET /healthz HTTP/1.1\r\nHost: HOST\r\n"
HIDDEN = f"{GET}\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
BODY = "2\r\n{}\r\n0\r\n\r\n"

REFUSED = {
    "both lengths": f"{HEAD}Content-Length: 4\r\n{CHUNKED}\r\n{BODY}{HIDDEN}",
    "both lengths, turned": f"{HEAD}{CHUNKED}Content-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}",
    "two lengths": f"{HEAD}Content-Length: 2\r\nContent-Length: 40\r\n\r\n{{}}{HIDDEN}",
    "a list of lengths": f"{HEAD}Content-Length: 2, 2\r\n\r\n{{}}",
    "a signed length": f"{HEAD}Content-Length: +2\r\n\r\n{{}}",
    "another coding": f"{HEAD}Transfer-Encoding: xchunked\r\n\r\n{BODY}",
    "chunked not last": f"{HEAD}Transfer-Encoding: chunked, identity\r\n\r\n{BODY}",
    "a space before the colon": f"{HEAD}Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n{{}}",
    "bare line feeds": HIDDEN.replace("\r\n", "\n"),
    "a bare line feed": f"{GET}X: a\n{CHUNKED}\r\n",
    "a bare carriage return": f"{GET}X: a\rY: b\r\n\r\n",
    "a folded header": f"{GET}X: a\r\n {CHUNKED}\r\n",
    "a NUL": f"{GET}X: a\0b\r\n\r\n",
    "a header without a colon": f"{GET}X\r\n\r\n",
    "a chunk that is larger than numbers": f"{HEAD}{CHUNKED}\r\nffffffffffffffff1\r\n{{}}\r\n0\r\n\r\n",
    "a chunk's size with a bare line feed": f"{HEAD}{CHUNKED}\r\n2\n{{}}\r\n0\r\n\r\n",
    "a chunk without an end": f"{HEAD}{CHUNKED}\r\n2\r\n{{}}XX0\r\n\r\n",
    "a line feed in a chunk's extension": f'{HEAD}{CHUNKED}\r\n2;a="\n"\r\n{{}}\r\n0\r\n\r\n',
    "another HTTP": "GET /healthz HTTP/9.9\r\nHost: HOST\r\n\r\n",
    "a method in small letters": "get /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "a tunnel": "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: HOST\r\n\r\n",
}
ANSWERED_ONCE = {
    "an old HTTP in chunks": (f"{HEAD.replace('1.1', '1.0')}{CHUNKED}\r\n{BODY}{HIDDEN}", 201),
    "a method in a header": (f"{GET}X-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n", 200),
    "headers without end": (f"{GET}X: {'a' * 65536}\r\nConnection: close\r\n\r\n", 431),
    "another protocol": (f"{GET}Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n", 200),
    "another's address": ("GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 421),
    "two hosts": (f"{GET}Host: evil.example\r\nConnection: close\r\n\r\n", 421),
}
WITHOUT_END = {
    "headers": (GET, "X: a\r\n"),
    "a header": (f"{GET}X: ", "a"),
    "a path": ("GET /", "a"),
    "what trails a body": (f"{HEAD}{CHUNKED}\r\n{BODY[:-2]}", "X: a\r\n"),
}


@pytest.fixture
def server(stacks: dict[str, Stack]) -> Stack:
    """A whole product; its web tier is meant."""
    return stacks["sqlite"]


def statuses(server: Stack, request: str) -> list[int]:
    """The status of each answer to what is sent on one connection, until the server closes it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    said = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.replace("HOST", f"{host}:{port}").encode("latin-1"))
        while part := connection.recv(65536):
            said += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", said)]


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_a40_what_can_be_read_in_two_ways_is_read_in_none(server: Stack, request_: str) -> None:
    assert statuses(server, request_) == [400]


@pytest.mark.parametrize(("request_", "status"), ANSWERED_ONCE.values(), ids=ANSWERED_ONCE)
def test_a40_nothing_hides_behind_a_request(server: Stack, request_: str, status: int) -> None:
    assert statuses(server, request_) == [status]


@pytest.mark.parametrize("tier", ["web", "mcp"])
@pytest.mark.parametrize(("begun", "more"), WITHOUT_END.values(), ids=WITHOUT_END)
def test_a40_a_head_without_end_is_not_kept(server: Stack, tier: str, begun: str, more: str) -> None:
    at = urlsplit(server.url if tier == "web" else server.environ["LONGWICK_MCP_URL"])
    with socket.create_connection((str(at.hostname), at.port or 0), timeout=10) as connection:
        connection.sendall(begun.replace("HOST", at.netloc).encode())
        with pytest.raises(ConnectionError):
            connection.sendall(more.encode() * (2**24 // len(more)))
