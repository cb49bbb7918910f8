"""Who may be let out of a sandbox to where: an HTTP proxy for the hosts that the profile lists, and for no other."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Mapping

from longwick import metrics
from longwick.places import Place, is_address, is_public, parse_place
from longwick.text import clean, shorten
from worker.passes import Pass

MOST_HEAD_BYTES = 16 * 2**10
HEAD_SECONDS = 10.0
CONNECT_SECONDS = 10.0
PIECE = 64 * 2**10
HEAD = re.compile(
    rb"(?P<method>[A-Z]{1,20}) (?:(?P<http>http)://)?(?P<place>[^\x00-\x20/?#@]+)"
    rb"(?P<path>[/?][^\x00-\x20]*)? HTTP/1\.[01]"
)
OF_ONE_HOP = (b"connection:", b"proxy-", b"keep-alive:", b"host:")


class NotLetOut(Exception):
    """With the reason, in words."""


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, given: Pass, near: Mapping[Place, Place]
) -> None:
    """Let one connection out, or refuse it; the log of the run tells of what was refused.

    `near` are places that are reached in any case, and where they really are.
    """
    try:
        head = await asyncio.wait_for(_head(reader), HEAD_SECONDS)
        place, opening = wanted(head)
        if place in near:
            remote, out = await asyncio.open_connection(*near[place])
        else:
            remote, out = await _connect(place, given.profile.egress_places)
    except NotLetOut as refused:
        metrics.EGRESS.labels("refused").inc()
        given.note("egress_refused", f"The agent was not let out: {refused}.")
        await _answer(writer, "403 Forbidden", str(refused))
    except (OSError, TimeoutError) as error:
        metrics.EGRESS.labels("unreachable").inc()
        await _answer(writer, "502 Bad Gateway", f"it cannot be reached ({type(error).__name__})")
    else:
        metrics.EGRESS.labels("let_out").inc()
        if opening:
            out.write(opening)
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _both_ways(reader, writer, remote, out)


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise NotLetOut("what it asked is no request of HTTP") from error
    if len(head) > MOST_HEAD_BYTES:
        raise NotLetOut("what it asked is too long")
    return head


def wanted(head: bytes) -> tuple[Place, bytes]:
    """Where a request wants to go, and what to say there first; nothing, for a tunnel.

    Raises:
        NotLetOut: that cannot be told beyond doubt.
    """
    line, _, rest = head.partition(b"\r\n")
    shown = shorten(clean(line.decode("latin-1")))
    match = HEAD.fullmatch(line)
    if match is None:
        raise NotLetOut(f"{shown!r} is no request to be let out")
    tunnel = match["method"] == b"CONNECT"
    if tunnel != (match["http"] is None) or (tunnel and match["path"]):
        raise NotLetOut(f"{shown!r} is no request to be let out")
    place = match["place"].decode("ascii", "replace")
    found = parse_place(place if tunnel else _with_port(place))
    if found is None:
        raise NotLetOut(f"{shown!r} names no host and port")
    if tunnel:
        return found, b""
    path = match["path"] or b"/"
    lines = [b"%b %b HTTP/1.1" % (match["method"], path if path.startswith(b"/") else b"/" + path)]
    lines += [b"Host: " + match["place"], b"Connection: close"]
    # A second request of this connection might be for somebody else.
    lines += [each for each in rest.split(b"\r\n") if each and not each.lower().startswith(OF_ONE_HOP)]
    return found, b"\r\n".join(lines) + b"\r\n\r\n"


def _with_port(place: str) -> str:
    return place if re.search(r":\d+$", place) and not place.endswith("]") else f"{place}:80"


async def _connect(place: Place, allowed: frozenset[Place]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = place
    if place not in allowed:
        raise NotLetOut(f"{host}:{port} is not among the hosts of its profile")
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_SECONDS):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # What is listed as an address is meant so; a name may lead anywhere its owner likes.
        named = not is_address(host)
        addresses = [str(each[4][0]) for each in found if not named or is_public(str(each[4][0]))]
        if not addresses:
            raise NotLetOut(f"{host}:{port} leads to a private address")
        error: OSError = OSError()
        for address in addresses:
            try:
                return await asyncio.open_connection(address, port)
            except OSError as failed:
                error = failed
        raise error


async def _answer(writer: asyncio.StreamWriter, status: str, words: str) -> None:
    body = f"Longwick: {words}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    with contextlib.suppress(OSError):
        await writer.drain()
    writer.close()


async def _both_ways(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: asyncio.StreamReader, out: asyncio.StreamWriter
) -> None:
    try:
        await asyncio.gather(_copy(reader, out), _copy(remote, writer))
    finally:
        writer.close()
        out.close()


async def _copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(PIECE):
            to.write(piece)
            await to.drain()
        if to.can_write_eof():
            to.write_eof()
    except OSError:
        # What breaks off on one side does so on the other, which would wait for ever.
        to.transport.abort()
