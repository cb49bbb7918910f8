"""What the OpenAPI document says of our answers beyond what FastAPI can see."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from web.callers import rule
from web.links import link
from web.problems import MEDIA_TYPE, Problem, title

Responses = dict[int | str, dict[str, Any]]
"""Answers of a route beside its usual one, as FastAPI takes them."""

PROBLEM = {"$ref": "#/components/schemas/Problem"}
TEXT = {"type": "string"}
REQUEST_ID = {"description": "Names the request in the server's log; also sent as `request-id`", "schema": TEXT}
RETRY_AFTER = {"description": "Seconds to wait before trying again", "schema": {"type": "integer"}}
# Where FastAPI puts errors of validation that a route does not declare: ours have another form, or are a 404.
NOT_OURS = ("HTTPValidationError", "ValidationError")
ANY_OTHER = {
    "description": "Any other problem, such as a key in the address (400), a foreign Origin or a key without the scope "
    "(403), a foreign Host (421) or a fault of ours (500)",
    "content": {MEDIA_TYPE: {"schema": PROBLEM}},
}
COUNTED = "/api/v1/"
"""Where any request may be one too many."""


def responses(*statuses: int) -> Responses:
    """The problems that a route may answer with."""
    return {status: {"model": Problem, "description": title(status)} for status in statuses}


def made(status: int) -> Responses:
    """The usual answer of a route that makes something: where that is to be found."""
    return {status: {"headers": {"Location": {"description": "The path of what was made", "schema": TEXT}}}}


def stored(media: dict[str, Any]) -> Responses:
    """The answers of web/content.py, which has the bytes in these media types."""
    etag = {"description": "The SHA-256 of the bytes, in quotes", "schema": TEXT}
    headers = {"ETag": etag, "Content-Disposition": {"schema": TEXT}}
    return {
        200: {"description": "The bytes", "content": media, "headers": headers},
        206: {"description": "The Range of them that was asked for", "content": media, "headers": headers},
        304: {"description": "The bytes are those of If-None-Match"},
    }


def operation_id(route: APIRoute) -> str:
    """A name for what a route does, as generated clients will call it."""
    return f"{route.tags[0]}_{route.name}"


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the application; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary="Runs CLI agents as durable jobs: whatever was accepted survives every crash.",
            routes=app.routes,
        )
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                answers = operation["responses"]
                if rule(method.upper(), path) is not None:
                    for status in (401, 503):
                        told = {"description": title(status), "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
                        answers.setdefault(str(status), told)
                    # Or nothing, where whoever is there is the owner.
                    operation["security"] = [{"key": []}, {}]
                if path.startswith(COUNTED):
                    answers.setdefault("429", {"description": title(429), "content": ANY_OTHER["content"]})
                operation["responses"] = {
                    status: _complete(status, answer)
                    for status, answer in [*answers.items(), ("default", ANY_OTHER)]
                    if NOT_OURS[0] not in str(answer)
                }
        link(document["paths"])
        for name in NOT_OURS:
            document["components"]["schemas"].pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(status: str, answer: dict[str, Any]) -> dict[str, Any]:
    headers = {**answer.get("headers", {}), "X-Request-Id": REQUEST_ID}
    if status in ("429", "503"):
        headers["Retry-After"] = RETRY_AFTER
    content = dict(answer.get("content", {}))
    if content.get("application/json", {}).get("schema") == PROBLEM:
        content[MEDIA_TYPE] = content.pop("application/json")
    return {**answer, "headers": headers, **({"content": content} if content else {})}
