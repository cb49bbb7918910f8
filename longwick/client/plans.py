"""How a client is asked and answered: a plan says what to ask of the server and what the answers mean.

Nothing here performs I/O. A plan is a generator: it yields an `Ask`, is sent the response, and returns its result.
"""

import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, BinaryIO, Concatenate, Generic, ParamSpec, TypeVar, overload

import httpx2

from longwick.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LongwickError,
    NotFound,
    StorageFull,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from longwick.client.connections import AsyncClient, Client

P = ParamSpec("P")
T = TypeVar("T")

API = "/api/v1"


class Refused(LongwickError):
    """The server says no, in a way that no other error here means; `status` is its HTTP status."""

    code = "refused"


class Unreachable(Unavailable):
    """No server answers."""

    code = "unreachable"


_KINDS: Mapping[int, type[LongwickError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
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
    files: dict[str, tuple[str, BinaryIO | bytes]] | None = None
    """Part -> the name of a file and its content."""
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
        return not_ours(answer)
    error = _KINDS.get(answer.status_code, Refused)(**told)
    error.status = answer.status_code
    return error


def not_ours(answer: httpx2.Response) -> Refused:
    """The error that an answer means which no Longwick gives."""
    url = answer.request.url
    place = f"{url.scheme}://{url.netloc.decode()}"
    error = Refused(f"{place} answered {answer.status_code}, and not as a Longwick does")
    error.status = answer.status_code
    return error


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
