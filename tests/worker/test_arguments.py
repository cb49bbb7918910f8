"""What a user says, and what files are called, never becomes an argument or a variable of a CLI."""

from dataclasses import replace
from pathlib import Path

import pytest

from longwick.profiles import Profile
from worker.agents import Launch, Picture, Said, Turn, adapter_for

PROMPTS = [
    "--version",
    "--help",
    '--settings={"hooks":{}}',
    "-c sandbox_mode=danger-full-access",
    "--dangerously-skip-permissions",
    "--",
    "-",
    "$(touch /tmp/x); `id` | sh",
    "\0",
    "@/etc/passwd",
    "/exit",
]
ADAPTERS = {
    "claude": {"adapter": "claude", "command": ["claude"], "models": ["m"]},
    "codex": {"adapter": "codex", "command": ["codex"], "models": ["m"]},
    "acp": {"adapter": "acp", "command": ["gemini", "--acp"], "models": ["m"]},
    "jsonl": {"adapter": "jsonl", "command": ["agent"]},
}
TURN = Turn("run_1", "thr_1", 1, "hello", [], mcp_url="http://mcp", mcp_token="lwk_secret")


@pytest.fixture(params=ADAPTERS)
def profile(request: pytest.FixtureRequest) -> Profile:
    return Profile.model_validate(ADAPTERS[request.param])


def launched(profile: Profile, turn: Turn, folder: Path) -> Launch:
    for name in ("work", "home"):
        (folder / name).mkdir(exist_ok=True)
    return adapter_for(profile, turn).launch(folder / "work", folder / "home")


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a29_a30_a_prompt_changes_no_argument_and_no_variable(profile: Profile, prompt: str, tmp_path: Path) -> None:
    usual = launched(profile, TURN, tmp_path)
    said = launched(profile, replace(TURN, text=prompt, shown="--shown"), tmp_path)
    assert (said.argv, said.env) == (usual.argv, usual.env)
    assert not any(TURN.mcp_token and TURN.mcp_token in argument for argument in usual.argv)


def test_a29_neither_do_history_and_names_of_files(profile: Profile, tmp_path: Path) -> None:
    usual = launched(profile, replace(TURN, history=[Said("user", "a"), Said("assistant", "b")]), tmp_path)
    history = [Said("user", "--version"), Said("assistant", "--help")]
    picture = Picture("--dangerously-skip-permissions.png", "image/png", b"png")
    said = launched(profile, replace(TURN, history=history, pictures=[picture]), tmp_path)
    assert (said.argv, said.env) == (usual.argv, usual.env)


def test_a45_a_cli_that_would_update_itself_is_told_not_to(tmp_path: Path) -> None:
    profile = Profile.model_validate(ADAPTERS["claude"])
    assert launched(profile, TURN, tmp_path).env["DISABLE_AUTOUPDATER"] == "1"
