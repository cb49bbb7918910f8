"""A check of answers against the OpenAPI document of the application."""

import re
from collections.abc import Callable
from typing import Any

import httpx2
from jsonschema import Draft202012Validator  # type: ignore[import-untyped] # it ships no types
from starlette.testclient import TestClient

from longwick.settings import Settings
from web.app import create_app

# What the door answers before any route is asked, and what no route foresees: `default` in the document.
ANYWHERE = {400, 403, 421, 431, 500}

Serve = Callable[[Settings], TestClient]
"""Starts the application with any settings."""


# Whatever the settings: test_openapi holds it to that.
DOCUMENT: dict[str, Any] = create_app(Settings.from_environ({})).openapi()
_PATHS = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): path for path in DOCUMENT["paths"]}


def is_documented(response: httpx2.Response) -> None:
    """Checks that an answer is one of those that the OpenAPI document promises."""
    asked = response.request
    path = next((path for form, path in _PATHS.items() if form.fullmatch(asked.url.path)), None)
    operation = DOCUMENT["paths"][path].get(asked.method.lower()) if path else None
    if operation is None:
        return
    answers = operation["responses"]
    answer = answers.get(str(response.status_code))
    if answer is None and response.status_code in ANYWHERE:
        answer = answers["default"]
    assert answer is not None, f"{asked.method} {path}: {response.status_code}"
    assert response.headers["x-request-id"].startswith("req_")
    content = answer.get("content", {})
    media_type = response.headers.get("content-type", "").partition(";")[0]
    assert media_type in content or "*/*" in content or (not media_type and not content)
    if media_type in content and media_type.endswith("json"):
        response.read()
        schema = {**content[media_type]["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(response.json())
