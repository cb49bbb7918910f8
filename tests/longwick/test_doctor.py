"""What the doctor finds: on a product that is well, and on each thing that can be wrong with one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import binaries as cli_binaries
import pytest
from processes import unheard_port
from stack import AGENTS, Stack
from waiting import wait_for

from longwick import doctor, schema
from longwick.database import Database
from longwick.doctor import Finding, Level, examine

PARTS = {
    "python",
    "valkey",
    "setpriv",
    "address",
    "entrance",
    "data dir",
    "disk",
    "record",
    "redis",
    "web",
    "worker",
    "mcp",
    "sandbox",
    "agents",
}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No `.env` of somebody's, no server by chance, a data dir that is not there yet."""
    monkeypatch.chdir(tmp_path)
    with unheard_port() as port:
        monkeypatch.setenv("LONGWICK_PORT", str(port))
        yield


def environ(stack: Stack) -> dict[str, str]:
    """What finds a stack."""
    return {
        "LONGWICK_DATA_DIR": str(stack.data_dir),
        "LONGWICK_PORT": stack.url.rpartition(":")[2],
        "LONGWICK_AGENTS_FILE": str(AGENTS / "agents.toml"),
    }


def wrong() -> dict[str, str]:
    return {finding.part: finding.words for finding in examine() if finding.level is Level.WRONG}


def only(part: str) -> Finding:
    (found,) = [finding for finding in examine() if finding.part == part]
    return found


def longwick_doctor(*options: str, **env: str) -> tuple[int, str]:
    command = [str(Path(sys.executable).with_name("longwick")), "doctor", *options]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def said_once_well(stack: Stack, *options: str) -> str:
    """What it says of a stack, once nothing is wrong there: a busy part may be late with an answer."""

    def well() -> str | None:
        status, said = longwick_doctor(*options, **environ(stack))
        return said if status == 0 else None

    return wait_for(well, 60, "the doctor to find nothing")


def test_a_product_that_is_well_is_found_so(stacks: dict[str, Stack]) -> None:
    said = said_once_well(stacks["sqlite"])
    assert "✗" not in said
    assert all(part in said for part in PARTS)
    assert "is at the newest revision" in said
    assert "can run: demo, script" in said
    assert "missing cannot run: the program 'a-program-that-nobody-has' is not installed" in said


def test_its_findings_come_as_json_lines(stacks: dict[str, Stack]) -> None:
    findings = [json.loads(line) for line in said_once_well(stacks["sqlite"], "--json").splitlines()]
    assert {finding["part"] for finding in findings} == PARTS
    assert {finding["level"] for finding in findings} == {"ok", "care"}


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_part_that_does_not_answer_is_named(own_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environ(own_stack).items():
        monkeypatch.setenv(name, value)
    wait_for(lambda: not wrong(), what="the doctor to find nothing")

    def mcp_alone() -> dict[str, str] | None:
        found = wrong()
        return found if set(found) == {"mcp"} else None

    mcp = own_stack.kill("mcp", signal.SIGSTOP)
    try:
        found = wait_for(mcp_alone, what="the doctor to see it")
    finally:
        os.kill(mcp, signal.SIGCONT)
    assert found["mcp"].startswith("the web tier says: does not answer")
    wait_for(lambda: not wrong(), what="the doctor to see that it is well again")


def test_where_nothing_runs_the_doctor_says_how_to_start_it() -> None:
    status, said = longwick_doctor()
    assert status == 1
    assert "no Longwick answers at" in said
    assert "`longwick up` starts one here" in said
    assert "can run: demo" in said
    assert set(wrong()) == {"web"}
    assert not Path("longwick-data").exists()


def test_a_setting_that_is_wrong_ends_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWICK_PROT", "1")
    assert "did you mean LONGWICK_PORT" in wrong()["settings"]


def test_an_address_that_others_reach_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWICK_HOST", "0.0.0.0")
    assert only("address").level is Level.CARE
    assert "can be reached from other machines" in only("address").words


def test_a_record_that_is_behind_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWICK_DATABASE_URL", f"sqlite:///{tmp_path / 'old.db'}")
    assert only("record").level is Level.CARE
    assert not (tmp_path / "old.db").exists()
    database = Database(f"sqlite:///{tmp_path / 'old.db'}")
    schema.upgrade(database, "0001")
    assert "is at revision 0001, and this Longwick wants" in wrong()["record"]
    assert "longwick migrate" in wrong()["record"]
    schema.upgrade(database)
    database.dispose()
    assert only("record").level is Level.OK


def test_a_record_that_cannot_be_read_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.db").write_text("this is no database" * 1000)
    monkeypatch.setenv("LONGWICK_DATABASE_URL", f"sqlite:///{tmp_path / 'no.db'}")
    assert "file is not a database" in wrong()["record"]
    with unheard_port() as port:
        monkeypatch.setenv("LONGWICK_DATABASE_URL", f"postgresql://me:secret@127.0.0.1:{port}/longwick")
        assert wrong()["record"] == "the record does not answer"
        assert "secret" not in str(list(examine()))


def test_a_redis_that_does_not_answer_is_found(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("LONGWICK_REDIS_URL", redis_url)
    assert only("redis").level is Level.OK
    assert only("valkey").words.startswith("not needed")
    with unheard_port() as port:
        monkeypatch.setenv("LONGWICK_REDIS_URL", f"redis://:secret@127.0.0.1:{port}/0")
        assert wrong()["redis"].startswith(f"127.0.0.1:{port} does not answer")
        assert "secret" not in str(list(examine()))


def test_a_data_dir_that_others_can_change_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "longwick-data"
    (folder / "valkey").mkdir(parents=True)
    folder.chmod(0o700)
    assert only("data dir").words == f"{folder} is private"
    folder.chmod(0o777)
    assert "can be changed by every user" in wrong()["data dir"]
    folder.chmod(0o700)
    secret = folder / "flower.password"
    secret.write_text("secret")
    secret.chmod(0o644)
    assert "can be read by others" in wrong()["data dir"]


def test_a_data_dir_is_looked_at_where_it_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    assert f"{tmp_path / 'other'} is private" in [finding.words for finding in examine(tmp_path / "other")]


def test_a_disk_that_is_full_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only("disk").level is not Level.WRONG
    monkeypatch.setattr(doctor, "FULL_BYTES", 2**60)
    assert wrong()["disk"].endswith("runs will fail")


def test_an_agents_file_that_cannot_be_used_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agents.toml").write_text("[agents.x]\nadapter = 1\n")
    monkeypatch.setenv("LONGWICK_AGENTS_FILE", str(tmp_path / "agents.toml"))
    assert "agents.x" in wrong()["agents"]


def test_the_versions_of_known_agents_are_named_and_one_that_was_never_tried_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\necho '9.8.7 (Claude Code)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("LONGWICK_CLAUDE_BIN", str(program))
    monkeypatch.setenv("LONGWICK_CODEX_BIN", str(cli_binaries.codex()))
    said = {finding.words: finding.level for finding in examine() if finding.part == "agents"}
    assert said[f"{cli_binaries.codex()} is codex 0.169.0"] is Level.OK
    never = f"{program} is claude 9.8.7, with which Longwick was never tried; 2.1.197 and 2.1.330 were"
    assert said[never] is Level.CARE


def test_agents_come_and_go_with_their_file_while_everything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agents.toml"
    listed = '[agents.{}]\nadapter = "jsonl"\ncommand = ["python3", "-S", "' + str(AGENTS / "script.py") + '"]\n'
    file.write_text(listed.format("first"))
    with Stack(tmp_path / "stack", {"LONGWICK_AGENTS_FILE": str(file)}) as stack:
        for name, value in {**environ(stack), "LONGWICK_AGENTS_FILE": str(file)}.items():
            monkeypatch.setenv(name, value)

        def available() -> set[str]:
            return {agent["id"] for agent in stack.get("/agents")["data"] if agent["available"]}

        assert available() == {"demo", "first"}
        file.write_text(listed.format("first") + listed.format("second"))
        wait_for(lambda: available() == {"demo", "first", "second"}, what="the new agent")
        assert stack.settled(stack.run("say 2 0", agent="second"))["output_text"] == "0 1 "
        file.write_text("[agents.third]\nadapter = 1\n")
        wait_for(lambda: "the agents stay as they were" in stack.said, what="the log to say why not")
        assert available() == {"demo", "first", "second"}
        assert stack.settled(stack.run("say 1 0", agent="second"))["output_text"] == "0 "
        assert "agents.third.adapter" in wrong()["agents"]
        assert "keeps the agents it had" in wrong()["agents"]
        file.write_text(listed.format("third"))
        wait_for(lambda: available() == {"demo", "third"}, what="the file to be used again")
        wait_for(lambda: not wrong(), what="the doctor to find nothing")


def test_a_program_that_is_missing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install util-linux" in wrong()["setpriv"]
    (tmp_path / "setpriv").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "setpriv").chmod(0o755)
    assert "does not run" in wrong()["setpriv"]


def audited(stack: Stack) -> tuple[int, list[str]]:
    """The exit status of an audit of a stack's record, and what it says of it."""
    record = stack.environ["LONGWICK_DATABASE_URL"]
    status, said = longwick_doctor("--audit", "--json", LONGWICK_DATABASE_URL=record, **environ(stack))
    found = [json.loads(line) for line in said.splitlines()]
    return status, [finding["words"] for finding in found if finding["part"] == "audit"]


def test_a_record_is_held_to_its_promises_while_it_is_used(own_stack: Stack) -> None:
    run = own_stack.run("say 2 0; save a.txt")
    own_stack.settled(run)
    status, (words,) = audited(own_stack)
    assert status == 0
    assert words.startswith("1 runs with ")
    assert words.endswith(" events, and 1 files: all is well")

    (blob,) = (path for path in (own_stack.data_dir / "blobs").glob("*/*") if path.is_file())
    blob.unlink()
    status, (lost, words) = audited(own_stack)
    assert status == 1
    assert lost == f"{blob.name}: bytes: the record knows these bytes, and storage has none"
    assert words.endswith("not all is well")


def test_an_audit_without_a_record_says_that_there_is_none(tmp_path: Path) -> None:
    (finding,) = doctor.examine_record(tmp_path)
    assert (finding.part, finding.level) == ("record", Level.CARE)
