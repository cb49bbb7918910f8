"""The two clients: `Client` waits, `AsyncClient` is awaited. What they ask and how they read is decided elsewhere."""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2
from dotenv import dotenv_values

from longwick.client.answers import Artifact, Event, Run
from longwick.client.files import write_file
from longwick.client.following import EVENT_BYTES, READ_SECONDS, Connected, Following
from longwick.client.operations import Operations
from longwick.client.plans import Ask, Plan, Unreachable, refusal
from longwick.errors import BadSetting, Unavailable
from longwick.settings import environ_values, is_loopback

T = TypeVar("T")

ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
# A server that listens everywhere is to be found here, too.
_FROM_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it listens nowhere


def find_server() -> tuple[str, str | None]:
    """The server's URL and the key for it, from the environment or `.env`.

    They are LONGWICK_URL and LONGWICK_API_KEY; without the first, it is where `longwick up` listens here.
    """
    names = ("LONGWICK_URL", "LONGWICK_API_KEY", "LONGWICK_HOST", "LONGWICK_PORT")
    named = {**dotenv_values(".env"), **environ_values(names)}
    host = named.get("LONGWICK_HOST") or "127.0.0.1"
    host = _FROM_HERE.get(host, host)
    here = f"http://{f'[{host}]' if ':' in host else host}:{named.get('LONGWICK_PORT') or 8000}"
    return named.get("LONGWICK_URL") or here, named.get("LONGWICK_API_KEY") or None


class _Connection(Operations):
    """What both clients know: where the server is, and for how long one that went away is waited for."""

    def __init__(
        self, url: str | None = None, *, api_key: str | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Without `url` or `api_key`, they are those of `find_server`. `math.inf` is patience without end.

        Raises:
            BadSetting: the URL is none.
        """
        found_url, found_key = find_server()
        self.url = (url or found_url).rstrip("/")
        self.patience_seconds = patience_seconds
        try:
            parsed = httpx2.URL(self.url)
        except httpx2.InvalidURL as error:
            raise BadSetting(f"{self.url!r} is no URL of a server: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise BadSetting(f"{self.url!r} is no URL of a server; it must look like http://127.0.0.1:8000")
        # A key that was found is for the server that was found.
        key = api_key or (found_key if url in (None, found_url) else None)
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            # What this machine says to itself is none of a proxy's business.
            "trust_env": not is_loopback(parsed.host),
        }

    def _unreachable(self, error: Exception) -> Unreachable:
        why = re.sub(r"\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
        return Unreachable(
            f"no Longwick answers at {self.url} ({why}); `longwick up` starts one here, and LONGWICK_URL names another"
        )

    def _following(self, run_id: str, after: int, connected: Connected | None) -> Following:
        return Following(run_id, after, self.patience_seconds, connected)


def _request(ask: Ask) -> dict[str, Any]:
    return {
        "method": ask.method,
        "url": ask.path,
        "params": ask.params or None,
        "json": ask.json,
        "files": ask.files,
        "headers": ask.headers,
    }


def _streamed(ask: Ask) -> dict[str, Any]:
    timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, read=READ_SECONDS)
    return {**_request(ask), "timeout": timeout}


def _checked(artifact: Artifact, content: bytes) -> bytes:
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise Unavailable(f"{artifact.name} did not arrive as it was saved; try again")
    return content


class Client(_Connection):
    """A Longwick server. Use it in a `with`, or `close` it."""

    @cached_property
    def _http(self) -> httpx2.Client:
        return httpx2.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def carry_out(self, plan: Plan[T]) -> T:
        """Ask what the plan asks; its result."""
        try:
            ask = next(plan)
            while True:
                answer = self._http.request(**_request(ask))
                if answer.is_error and not ask.any_status:
                    raise refusal(answer)
                ask = plan.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def follow(
        self, run_id: str, after: int = 0, *, connected: Connected | None = None
    ) -> Generator[Event, None, None]:
        """The run's events past `after`, each once and in order, to the one that ends it.

        A connection that breaks is made again; `connected` is told when it goes, and when it is back.

        Raises:
            Unreachable: no server has answered for `patience_seconds`.
        """
        following = self._following(run_id, after, connected)
        while not following.over:
            try:
                with self._http.stream(**_streamed(following.ask())) as answer:
                    if answer.is_error:
                        answer.read()
                    if following.reads(answer):
                        for frame in httpx2.EventSource(answer, max_event_size=EVENT_BYTES):
                            if event := following.take(frame):
                                if event.lacks_text:
                                    event = event.with_text(self.read_value(event))
                                following.passed(event)
                                yield event
            except (httpx2.TransportError, Unreachable) as error:
                following.lost(error)
            time.sleep(following.pause_seconds())

    def wait_for_run(self, run_id: str) -> Run:
        """The run, once it is over."""
        with closing(self.follow(run_id, self.get_run(run_id).last_seq)) as events:
            for _ in events:
                pass
        return self.get_run(run_id)

    def save_artifact(self, artifact: Artifact, folder: Path | str = ".", *, overwrite: bool = False) -> Path:
        """Write the file, under its name, into `folder`; where it is then.

        Raises:
            BadName: its name would lead out of the folder.
            Conflict: there is such a file already, and it is not to be overwritten.
        """
        content = _checked(artifact, self.read_artifact(artifact.id))
        return write_file(Path(folder), artifact.name, content, overwrite=overwrite)


class AsyncClient(_Connection):
    """A Longwick server. Use it in an `async with`, or `await` its `close`. Its methods are those of `Client`."""

    @cached_property
    def _http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def carry_out(self, plan: Plan[T]) -> T:
        """Ask what the plan asks; its result."""
        try:
            ask = next(plan)
            while True:
                answer = await self._http.request(**_request(ask))
                if answer.is_error and not ask.any_status:
                    raise refusal(answer)
                ask = plan.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    async def follow(
        self, run_id: str, after: int = 0, *, connected: Connected | None = None
    ) -> AsyncGenerator[Event, None]:
        """As `Client.follow`."""
        following = self._following(run_id, after, connected)
        while not following.over:
            try:
                async with self._http.stream(**_streamed(following.ask())) as answer:
                    if answer.is_error:
                        await answer.aread()
                    if following.reads(answer):
                        async for frame in httpx2.EventSource(answer, max_event_size=EVENT_BYTES):
                            if event := following.take(frame):
                                if event.lacks_text:
                                    event = event.with_text(await self.read_value(event))
                                following.passed(event)
                                yield event
            except (httpx2.TransportError, Unreachable) as error:
                following.lost(error)
            await asyncio.sleep(following.pause_seconds())

    async def wait_for_run(self, run_id: str) -> Run:
        """As `Client.wait_for_run`."""
        async with aclosing(self.follow(run_id, (await self.get_run(run_id)).last_seq)) as events:
            async for _ in events:
                pass
        return await self.get_run(run_id)

    async def save_artifact(self, artifact: Artifact, folder: Path | str = ".", *, overwrite: bool = False) -> Path:
        """As `Client.save_artifact`."""
        content = _checked(artifact, await self.read_artifact(artifact.id))
        return await asyncio.to_thread(write_file, Path(folder), artifact.name, content, overwrite=overwrite)
