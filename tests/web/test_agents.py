"""Which agents there are for a run, and what becomes of a request for one that cannot be had."""

import sys
from pathlib import Path

import pytest
from documented import Serve
from starlette.testclient import TestClient

from longwick.settings import Settings

RUNS = "/api/v1/runs"
FILE = f"""
[agents.mine]
adapter = "claude"
command = ["{sys.executable}"]
models = ["large", "small"]

[agents.coder]
adapter = "claude"
kind = "coding"
command = ["{sys.executable}"]
"""


@pytest.fixture
def client(settings: Settings, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    file = tmp_path / "agents.toml"
    file.write_text(FILE)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    return serve(settings.model_copy(update={"agents_file": file}))


def refused(client: TestClient, **asked: str) -> tuple[int, str, str]:
    answer = client.post(RUNS, json={"input": "hello", **asked})
    assert client.get(RUNS).json()["data"] == []
    return answer.status_code, answer.json()["code"], answer.json()["detail"]


def test_a30_a_model_that_the_agent_has_is_taken_and_no_other(
    client: TestClient,
) -> None:
    status, code, words = refused(client, agent="mine", model="huge")
    assert (status, code) == (422, "unknown_model")
    assert "only large, small" in words
    assert client.post(RUNS, json={"input": "hello", "agent": "mine", "model": "small"}).status_code == 202


def test_an_agent_without_a_key_is_refused_before_anything_is_accepted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    status, code, words = refused(client, agent="mine")
    assert (status, code) == (422, "agent_unavailable")
    assert "set ANTHROPIC_API_KEY in the environment of the worker" in words


def test_an_agent_with_files_and_shell_is_refused_until_the_operator_says_so(client: TestClient) -> None:
    status, code, words = refused(client, agent="coder")
    assert (status, code) == (422, "agent_unavailable")
    assert "LONGWICK_ALLOW_UNSANDBOXED=1" in words


def test_what_an_agent_can_do_is_listed_with_its_models(client: TestClient) -> None:
    listed = {agent["id"]: agent for agent in client.get("/api/v1/agents").json()["data"]}
    assert listed["mine"]["models"] == ["large", "small"]
    assert {"steer", "approvals", "images"} <= set(listed["mine"]["capabilities"])
    assert "steer" not in listed["demo"]["capabilities"]
