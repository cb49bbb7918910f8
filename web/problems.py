"""Errors as a caller sees them: RFC 9457 problems, with the member `error` that OpenAI-shaped clients print."""

import logging
import math
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from longwick.errors import LongwickError, TooMany
from longwick.text import clean, shorten
from web.schemas import Answer

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Python 3.11 knows these by names that RFC 9110 has replaced.
TITLES = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}
CODES = {413: "too_large"}
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Where the words of the library say little to who never saw it.
WORDS = {
    "extra_forbidden": "there is no such field",
    "missing": "is missing",
    "model_attributes_type": "must be a JSON object",
}
LONGEST_DETAIL = 1000
LONGEST_PARAM = 200
MOST_ERRORS = 20


class ProblemError(Answer):
    """The problem again, in the shape that OpenAI's clients print."""

    message: str
    type: str
    param: str | None
    code: str


class WrongField(Answer):
    """One thing that is wrong with a request."""

    param: str | None
    message: str
    type: str


class Problem(Answer):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    code: str
    """What happened, for programs: it stays the same when the words change."""
    request_id: str
    error: ProblemError
    errors: list[WrongField]
    """The fields that are wrong, where that is the problem."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an error tells its caller."""

    status: int
    code: str
    detail: str
    param: str | None = None
    errors: list[WrongField] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


async def problem(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in `error`. What we did not foresee tells the request's id and no more."""
    told = _told(request, error)
    request_id: str = request.state.request_id
    if told.status >= 500:
        log.log(
            logging.ERROR if told.status == 500 else logging.WARNING,
            "%s %s: %s",
            request.method,
            request.scope["path"],
            told.code,
            exc_info=error,
        )
    detail = clean(shorten(told.detail, LONGEST_DETAIL))
    kind = TYPES.get(told.status, "invalid_request_error" if told.status < 500 else "server_error")
    body = Problem(
        title=title(told.status),
        status=told.status,
        detail=detail,
        instance=clean(request.scope["path"]),
        code=told.code,
        request_id=request_id,
        error=ProblemError(message=detail, type=kind, param=told.param, code=told.code),
        errors=told.errors,
    )
    return JSONResponse(body.model_dump(), told.status, _headers(told), MEDIA_TYPE)


def title(status: int) -> str:
    """The name of a status."""
    return TITLES.get(status) or HTTPStatus(status).phrase


def _told(request: Request, error: Exception) -> Told:
    match error:
        case TooMany():
            headers = {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
            return Told(error.status, error.code, error.detail, headers=headers)
        case LongwickError() if error.status != 500:
            return Told(error.status, error.code, error.detail, error.param)
        case RequestValidationError():
            return _told_of_validation(request, error)
        case HTTPException():
            code = CODES.get(error.status_code) or title(error.status_code).lower().replace(" ", "_")
            headers = {"Allow": _allowed(request)} if error.status_code == 405 else dict(error.headers or {})
            return Told(error.status_code, code, error.detail, headers=headers)
        case _:
            detail = f"Something went wrong here that should not have. The log has more on {request.state.request_id}."
            return Told(500, "internal_error", detail)


def _told_of_validation(request: Request, error: RequestValidationError) -> Told:
    """What is wrong, field by field; never the values, which may be large or secret."""
    found = [
        WrongField(param=_param(wrong["loc"]), message=WORDS.get(wrong["type"]) or wrong["msg"], type=wrong["type"])
        for wrong in error.errors()[:MOST_ERRORS]
    ]
    first = found[0]
    if first.type == "json_invalid":
        return Told(400, "invalid_json", "the body is not JSON")
    sent = request.headers.get("content-type")
    if first.param is None and "json" not in (sent or "") and first.type != "missing":
        wanted = "the body must come with Content-Type: application/json"
        return Told(415, "unsupported_media_type", wanted + (f", not {sent}" if sent else ""))
    detail = f"{first.param or 'the body'}: {first.message}"
    return Told(422, "invalid_request", detail, first.param, found)


def _param(loc: tuple[int | str, ...]) -> str | None:
    """The name of a field or parameter: in a body with the fields around it."""
    where, *path = loc
    name = ".".join(str(part) for part in (path if where == "body" else path[:1]))
    return clean(shorten(name, LONGEST_PARAM)) or None


def _allowed(request: Request) -> str:
    """The methods of all routes at this path; the library names those of the first alone."""
    there = [
        route
        for route in iter_route_contexts(request.app.routes)
        if route.path_regex and route.path_regex.fullmatch(request.scope["path"])
    ]
    return ", ".join(sorted({method for route in there for method in route.methods or ()}))


def _headers(told: Told) -> dict[str, str]:
    if told.status in (429, 503):
        return {"Retry-After": "1", **told.headers}
    if told.status == 401:
        return {"WWW-Authenticate": "Bearer", **told.headers}
    if told.status == 409:
        # Clients of the OpenAI kind would send it again, which changes nothing.
        return {"X-Should-Retry": "false", **told.headers}
    return told.headers
