"""What can be asked of the server, written once for both clients: a plan says what to ask and what the answers mean.

Nothing here performs I/O. A plan is a generator: it yields an `Ask`, is sent the response, and returns its result.
"""

import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote

import httpx2
from pydantic import ValidationError

from longwick.client.answers import Agent, Answer, Artifact, Event, Health, Message, Run, Thread
from longwick.errors import (
    Conflict,
    Invalid,
    LongwickError,
    NotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unavailable,
)

if TYPE_CHECKING:
    from longwick.client.connections import AsyncClient, Client

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A", bound=Answer)

API = "/api/v1"
PAGE = 1000


class Refused(LongwickError):
    """The server says no, in a way that no other error here means; `status` is its HTTP status."""

    code = "refused"


class Unreachable(Unavailable):
    """No server answers."""

    code = "unreachable"


_KINDS: Mapping[int, type[LongwickError]] = {
    400: Invalid,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: TooMany,
    503: Unavailable,
    507: StorageFull,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request."""

    method: str
    path: str
    params: dict[str, Any] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    any_status: bool = False
    """Whether an answer of 400 or more is one like any other."""


Plan = Generator[Ask, httpx2.Response, T]


def refusal(answer: httpx2.Response) -> LongwickError:
    """The error that an answer of 400 or more means; its body has been read."""
    try:
        problem = answer.json()
        told = {"detail": str(problem["detail"]), "code": str(problem["code"])}
    except (ValueError, KeyError, TypeError):
        return _not_ours(answer)
    error = _KINDS.get(answer.status_code, Refused)(**told)
    error.status = answer.status_code
    return error


def _not_ours(answer: httpx2.Response) -> Refused:
    url = answer.request.url
    place = f"{url.scheme}://{url.netloc.decode()}"
    error = Refused(f"{place} answered {answer.status_code}, and not as a Longwick does")
    error.status = answer.status_code
    return error


def _parsed(model: type[A], answer: httpx2.Response) -> A:
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise _not_ours(answer) from error


def _listed(model: type[A], path: str, limit: int | None, **params: object) -> Plan[list[A]]:
    """What a list holds, from as many of its pages as `limit` takes."""
    asked = {name: value for name, value in params.items() if value}
    found: list[A] = []
    while True:
        page = PAGE if limit is None else min(PAGE, limit - len(found))
        answer = yield Ask("GET", path, {**asked, "limit": page})
        try:
            listed = answer.json()
            found += [model.model_validate(item) for item in listed["data"]]
            asked["after"], more = listed["last_id"], listed["has_more"]
        except (ValueError, KeyError, TypeError) as error:
            raise _not_ours(answer) from error
        if not more or (limit is not None and len(found) >= limit):
            return found


class operation(Generic[P, T]):  # noqa: N801 - a decorator, as `property` is one
    """A plan as a method: `Client` carries it out and returns its result, `AsyncClient` returns a coroutine of it."""

    def __init__(self, plan: Callable[Concatenate[Any, P], Plan[T]]) -> None:
        self._plan = plan
        signature = inspect.signature(plan)
        self._signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        self.__doc__ = plan.__doc__

    @overload
    def __get__(self, client: "Client", owner: object = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: object = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: object = None) -> "operation[P, T]": ...
    def __get__(self, client: "Client | AsyncClient | None", owner: object = None) -> Any:
        if client is None:
            return self

        def carried_out(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.carry_out(self._plan(client, *args, **kwargs))

        carried_out.__signature__ = self._signature  # type: ignore[attr-defined] # what a notebook shows
        return update_wrapper(carried_out, self._plan)


def _at(*parts: object) -> str:
    return API + "".join("/" + quote(str(part), safe="") for part in parts)


class Operations:
    """Each route of the API that a client needs."""

    @operation
    def create_run(
        self,
        /,
        input: str,  # noqa: A002 - the API's name
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        kind: str | None = None,
        artifact_generation: bool | None = None,
        timeout_seconds: float | None = None,
        idle_timeout_seconds: float | None = None,
        metadata: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        **more: Any,
    ) -> Plan[Run]:
        """Have an agent work on `input`, in a thread or in a new one; `kind="background"` for what nobody waits for.

        `more` are fields of a run request that only a newer server knows.
        """
        asked = {
            "input": input,
            "agent": agent,
            "model": model,
            "kind": kind,
            "artifact_generation": artifact_generation,
            "timeout_seconds": timeout_seconds,
            "idle_timeout_seconds": idle_timeout_seconds,
            "metadata": metadata,
            **more,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        path = _at("threads", thread_id, "runs") if thread_id else _at("runs")
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return _parsed(Run, (yield Ask("POST", path, json=body, headers=headers)))

    @operation
    def get_run(self, run_id: str) -> Plan[Run]:
        """The run as it is now."""
        return _parsed(Run, (yield Ask("GET", _at("runs", run_id))))

    @operation
    def list_runs(
        self,
        *,
        status: Sequence[str] = (),
        kind: str | None = None,
        thread_id: str | None = None,
        limit: int | None = 100,
        after: str | None = None,
    ) -> Plan[list[Run]]:
        """The newest runs, newest first; the next ones come after the last one's id. No limit: all there are."""
        asked = {"status": ",".join(status), "kind": kind, "thread_id": thread_id, "after": after}
        return (yield from _listed(Run, _at("runs"), limit, **asked))

    @operation
    def cancel_run(self, run_id: str) -> Plan[Run]:
        """Have it stopped: at once where it waits, soon where it runs. Raises Conflict when it is over already."""
        return _parsed(Run, (yield Ask("POST", _at("runs", run_id, "cancel"))))

    @operation
    def create_thread(
        self, *, title: str = "", agent: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Plan[Thread]:
        """An empty thread. (A run that names none makes its own.)"""
        asked = {"title": title, "agent": agent, "metadata": metadata}
        body = {name: value for name, value in asked.items() if value}
        return _parsed(Thread, (yield Ask("POST", _at("threads"), json=body)))

    @operation
    def get_thread(self, thread_id: str) -> Plan[Thread]:
        """The thread as it is now."""
        return _parsed(Thread, (yield Ask("GET", _at("threads", thread_id))))

    @operation
    def list_threads(self, *, limit: int | None = 100, after: str | None = None) -> Plan[list[Thread]]:
        """The newest threads, newest first. No limit: all there are."""
        return (yield from _listed(Thread, _at("threads"), limit, after=after))

    @operation
    def list_messages(self, thread_id: str) -> Plan[list[Message]]:
        """All that was said in a thread, oldest first."""
        return (yield from _listed(Message, _at("threads", thread_id, "messages"), None))

    @operation
    def list_artifacts(self, of: str) -> Plan[list[Artifact]]:
        """All files of a run (its id) or of a thread, all versions, newest first."""
        kind = "threads" if of.startswith("thr_") else "runs"
        return (yield from _listed(Artifact, _at(kind, of, "artifacts"), None))

    @operation
    def get_artifact(self, artifact_id: str) -> Plan[Artifact]:
        """What is known of a file."""
        return _parsed(Artifact, (yield Ask("GET", _at("artifacts", artifact_id))))

    @operation
    def read_artifact(self, artifact_id: str) -> Plan[bytes]:
        """The bytes of a file."""
        return (yield Ask("GET", _at("artifacts", artifact_id, "content"))).content

    @operation
    def read_value(self, event: Event) -> Plan[Any]:
        """The value that was too large for an event: text, or what its JSON says."""
        answer = yield Ask("GET", _at("runs", event.run_id, "events", event.seq, "value"))
        return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text

    @operation
    def list_agents(self) -> Plan[list[Agent]]:
        """The agents, and whether they can run now."""
        return (yield from _listed(Agent, _at("agents"), None))

    @operation
    def health(self) -> Plan[Health]:
        """How the server and what it needs are, also when that is not well."""
        return _parsed(Health, (yield Ask("GET", "/readyz", any_status=True)))
