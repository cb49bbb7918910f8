"""What a log line is: one object, whatever its words are, and without a secret."""

import json
import logging
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longwick import logs
from longwick.logs import Censor, JsonFormatter, TextFormatter, bound
from longwick.settings import Settings, secret_values


def record(message: str, *words: object, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "x.py", 1, message, words, sys.exc_info() if error else None)


@settings(deadline=None)
@given(st.text())
def test_a44_no_message_makes_a_second_line(text: str) -> None:
    line = JsonFormatter("web", Censor()).format(record("%s", text))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["tier"] == "web"
    shown = TextFormatter("web", Censor()).format(record("%s", text))
    assert "\n" not in shown
    assert "\r" not in shown


def test_a_line_names_the_run_and_the_attempt_that_it_is_about() -> None:
    with bound(run_id="run_1", attempt=2), bound(request_id="req_1"):
        line = json.loads(JsonFormatter("worker", Censor()).format(record("it is %s", "so")))
    assert (line["run_id"], line["attempt"], line["request_id"], line["message"]) == ("run_1", 2, "req_1", "it is so")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no postgresql://me:pa:ss%40@db/x", "no postgresql://[removed]@db/x"),
        ("redis://:canary@127.0.0.1:6379/0 is away", "redis://[removed]@127.0.0.1:6379/0 is away"),
        ("GET /x?after=3&ticket=abc HTTP/1.1", "GET /x?after=3&[removed] HTTP/1.1"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer [removed]"),
        (f"token lwk_{'a' * 43}!", "token [removed]!"),
        (f"lwapi_{'a' * 10}_{'b' * 59}", "[removed]"),
        ("key sk-ant-api03-abcdefghijkl", "key [removed]"),
        ("'x-api-key': 'abcdefghij'", "'x-api-key[removed]'"),
        ("hunter2-hunter2 and my/secret", "[removed] and [removed]"),
        ("http://127.0.0.1:8000/a?b=c run_01 is well", "http://127.0.0.1:8000/a?b=c run_01 is well"),
    ],
)
def test_a44_what_is_or_looks_like_a_secret_is_taken_out(said: str, shown: str) -> None:
    assert Censor(["my/secret", "hunter2-hunter2"])(said) == shown


def test_a44_the_secrets_are_those_of_the_environment_and_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-of-the-provider")
    monkeypatch.setenv("MY_PASSWORD", "canary-of-mine")
    monkeypatch.setenv("SOME_TOKEN", "short")
    assert secret_values() == sorted(secret_values(), key=len, reverse=True)
    assert {"canary-of-the-provider", "canary-of-mine"} <= set(secret_values())
    assert "short" not in secret_values()
    settings = Settings.from_environ({}, database_url="postgresql://me:c%40nary@db/x", flower_password="of-flower")
    assert set(logs.passwords_of(settings)) == {"of-flower", "c%40nary", "c@nary"}


def test_a44_a_traceback_has_none_either() -> None:
    try:
        raise ValueError("it was my/secret")
    except ValueError:
        for formatter in (JsonFormatter("web", Censor(["my/secret"])), TextFormatter("web", Censor(["my/secret"]))):
            line = formatter.format(record("it failed", error=True))
            assert "it was [removed]" in line
            assert "my/secret" not in line
