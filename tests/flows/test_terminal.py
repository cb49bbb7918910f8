"""The commands as a person and as a script use them: on a real terminal, in real pipes, against the whole product."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Launch
from recording import COLUMNS, PLAIN, ROWS, Playback, Terminal
from stack import Json, Stack, check_whole
from waiting import wait_for

from longwick import approvals
from longwick.client import Client
from longwick.database import Database
from longwick.models import Run

LONGWICK = str(Path(sys.executable).with_name("longwick"))
FINISHED = re.compile(r"✓ succeeded · \d+\.\d s( · \d+ tokens)? · run_\w+")


@pytest.fixture
def stack(stacks: dict[str, Stack]) -> Stack:
    return stacks["sqlite"]


def longwick(url: str, *words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """The command with pipes for its input and output."""
    command = [LONGWICK, *map(str, words)]
    env = {**os.environ, **PLAIN, "LONGWICK_URL": url}
    return subprocess.run(command, env=env, input=given, capture_output=True, text=True, timeout=60, check=False)


def on_a_terminal(stack: Stack, *words: str | Path) -> Terminal:
    return Terminal([LONGWICK, *words], {"LONGWICK_URL": stack.url})


def the_run(stack: Stack, text: str) -> Json:
    """The newest run that was asked for with this text, once it is there."""

    def find() -> Json | None:
        found: list[Json] = [run for run in stack.get("/runs?limit=20")["data"] if run["input"] == text]
        return found[0] if found else None

    found = wait_for(find, what=f"the run {text!r}")
    assert found
    return found


def test_a_run_on_a_terminal_is_painted_live_and_leaves_each_line_once(stack: Stack, tmp_path: Path) -> None:
    parts = range(150, 1201, 150)
    text = "; ".join(f"count {upto} 0.001; wait {tmp_path / str(upto)}" for upto in parts)
    with on_a_terminal(stack, "run", f"{text}; save report.txt; say 3 0", "--agent", "script") as terminal:
        for upto in parts:
            terminal.wait_for(str(upto - 1))
            (tmp_path / str(upto)).touch()
        assert terminal.wait() == 0
        playback = Playback()
        frames = [playback.feed([frame]) for frame in terminal.frames]
    final = frames[-1]
    file = next(n for n, line in enumerate(final) if line.startswith("▪ report.txt  version 1, "))
    assert " ".join(final[:file]).split() == [str(n) for n in range(1200)]
    done = '● save_artifact(name="report.txt") → Saved report.txt (version 1).'
    assert final[file + 1 : -1] == [done, "", "0 1 2", ""]
    assert FINISHED.fullmatch(final[-1])
    # It came little by little, none of it ever went away again, and before it was whole it kept to the screen.
    growing = [frame for frame in frames if not any(line.startswith("▪") for line in frame)]
    newest = [int(numbers[-1]) for frame in growing if (numbers := re.findall(r"\d+", " ".join(frame[:-1])))]
    assert newest == sorted(newest)
    assert set(newest) >= {upto - 1 for upto in parts}
    assert file > ROWS > max(len(frame) for frame in growing if "1199" not in " ".join(frame[:-1]))


def test_the_terminal_is_left_as_it_was(stack: Stack) -> None:
    with on_a_terminal(stack, "run", "say 100 0.01", "--agent", "script") as terminal:
        assert terminal.wait() == 0
        written = b"".join(terminal.chunks)
    for clearing in (b"\x1b[2J", b"\x1b[J", b"\x1b[H", b"\x1b[?1049h"):
        assert clearing not in written
    assert written.count(b"\x1b[?25l") == written.count(b"\x1b[?25h") == 1
    assert written.rindex(b"\x1b[?25h") > written.rindex(b"\x1b[?25l")


def test_markdown_thoughts_tools_and_files_are_shown_on_a_terminal(stack: Stack) -> None:
    with on_a_terminal(stack, "run", "Write a haiku about the sea", "--agent", "demo") as terminal:
        assert terminal.wait() == 0
        lines, written = terminal.transcript, b"".join(terminal.chunks).decode()
    assert "\x1b[2mWords in the request: 6" in written
    assert "\x1b[1mdemo agent\x1b[0m" in written
    assert any(line.startswith("▪ sea-haiku.md  version 1, ") for line in lines)
    assert len([line for line in lines if line.startswith("● mcp__longwick__save_artifact(")]) == 1
    assert "**" not in " ".join(lines)
    assert FINISHED.fullmatch(lines[-1])
    assert max(map(len, lines)) <= COLUMNS


def test_a_pipe_gets_the_answer_and_nothing_else(stack: Stack) -> None:
    done = longwick(stack.url, "run", "say 3 0; save a.txt; say 2 0", "--agent", "script")
    assert (done.returncode, done.stdout) == (0, "0 1 2 \n\n0 1 \n")
    assert "▪ a.txt" in done.stderr
    assert FINISHED.search(done.stderr)


def test_json_lines_are_the_log_of_the_run(stack: Stack) -> None:
    done = longwick(stack.url, "run", "-", "--agent", "script", "--json", given="say 5 0; save a.txt")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    check_whole(events)
    assert events == stack.log_of({"id": events[0]["run_id"]})


def test_a_run_that_fails_is_exit_status_1_and_says_why(stack: Stack) -> None:
    done = longwick(stack.url, "run", "say 2 0; exit 3", "--agent", "script")
    assert (done.returncode, done.stdout) == (1, "0 1 \n")
    assert "✗ failed · cli_exit: The agent ended with status 3." in done.stderr
    again = longwick(stack.url, "attach", re.findall(r"run_\w+", done.stderr)[-1])
    assert (again.returncode, again.stdout) == (1, "0 1 \n")


def test_ctrl_c_cancels_the_run_keeps_what_was_shown_and_exits_130(stack: Stack, tmp_path: Path) -> None:
    text = f"say 4 0; wait {tmp_path / 'never'}"
    with on_a_terminal(stack, "run", text, "--agent", "script") as terminal:
        terminal.wait_for("0 1 2 3")
        terminal.press("\x03")
        assert terminal.wait() == 130
        lines = terminal.transcript
    assert lines[0] == "0 1 2 3"
    assert lines[-1].startswith("■ cancelled")
    assert stack.status(the_run(stack, text)) == "cancelled"


def test_ctrl_c_twice_leaves_at_once_and_the_cancelling_goes_on(stack: Stack, tmp_path: Path) -> None:
    text = f"say 2 0; wait {tmp_path / 'never'}"
    with on_a_terminal(stack, "run", text, "--agent", "script") as terminal:
        terminal.wait_for("0 1")
        terminal.press("\x03")
        terminal.press("\x03")
        assert terminal.wait() == 130
    # The first one may not have reached the server any more; what is promised is that the terminal is free.
    longwick(stack.url, "cancel", the_run(stack, text)["id"])
    assert stack.settled(the_run(stack, text))["status"] == "cancelled"


def test_attach_to_a_run_that_is_over_prints_it_whole_and_ends(stack: Stack) -> None:
    run = stack.run("say 40 0; save a.txt")
    stack.settled(run)
    done = longwick(stack.url, "attach", run["id"], "--json")
    assert done.returncode == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == stack.log_of(run)
    with on_a_terminal(stack, "attach", run["id"]) as terminal:
        assert terminal.wait() == 0
        lines = terminal.transcript
    assert " ".join(lines[:2]).split() == [str(n) for n in range(40)]
    assert FINISHED.fullmatch(lines[-1])


def test_ctrl_c_in_attach_leaves_and_the_run_goes_on(stack: Stack, tmp_path: Path) -> None:
    run = stack.run(f"say 3 0; wait {tmp_path / 'gate'}; say 1 0")
    with on_a_terminal(stack, "attach", run["id"]) as terminal:
        terminal.wait_for("0 1 2")
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert f"`longwick attach {run['id']}` comes back" in terminal.text
    assert stack.status(run) == "running"
    (tmp_path / "gate").touch()
    assert stack.settled(run)["status"] == "succeeded"


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_attach_goes_on_from_where_it_was_when_the_server_is_killed(
    own_stack: Stack, launch: Launch, tmp_path: Path
) -> None:
    run = own_stack.run(f"say 30 0.01; wait {tmp_path / 'gate'}; say 30 0.01")
    wait_for(lambda: own_stack.text_of(run).endswith("29 "), what="the first half")
    errors = tmp_path / "errors"
    lines = launch(
        ["sh", "-c", f"'{LONGWICK}' attach {run['id']} --json 2>'{errors}'"], env={"LONGWICK_URL": own_stack.url}
    )
    with on_a_terminal(own_stack, "attach", run["id"]) as terminal:
        terminal.wait_for("29")
        wait_for(lambda: '"29 ' in lines.output or " 29 " in lines.output, what="the first half in the pipe")
        own_stack.kill("web")
        terminal.wait_for("the server does not answer; waiting for it")
        terminal.wait_for("the server is back", 30)
        (tmp_path / "gate").touch()
        assert terminal.wait() == 0
        transcript = terminal.transcript
    assert lines.wait() == 0
    events = [json.loads(line) for line in lines.output.splitlines()]
    check_whole(events)
    assert events == own_stack.log_of(run)
    assert errors.read_text().splitlines() == ["the server does not answer; waiting for it", "the server is back"]
    said = [line for line in transcript if line not in ("", "the server is back")]
    assert " ".join(said[:-1]).split() == [str(n) for n in [*range(30), *range(30)]]


def test_a_run_in_the_background_is_listed_watched_and_cancelled(stack: Stack, tmp_path: Path) -> None:
    text = f"wait {tmp_path / 'never'}"
    started = longwick(stack.url, "run", text, "--agent", "script", "--background")
    run_id = started.stdout.strip()
    assert re.fullmatch(r"run_\w+", run_id)
    listed = longwick(stack.url, "ps").stdout.splitlines()
    assert listed[0].split() == ["RUN", "STATUS", "AGENT", "KIND", "TURN", "MADE", "TOOK", "WHAT"]
    assert [line for line in listed if run_id in line and "background" in line and text[:40] in line]
    assert run_id in [json.loads(line)["id"] for line in longwick(stack.url, "ps", "--json").stdout.splitlines()]
    cancelled = longwick(stack.url, "cancel", run_id)
    assert (cancelled.returncode, cancelled.stdout) == (0, "")
    assert stack.settled({"id": run_id})["status"] == "cancelled"
    assert longwick(stack.url, "attach", run_id).returncode == 130
    assert run_id not in longwick(stack.url, "ps").stdout
    assert run_id in longwick(stack.url, "ps", "--all").stdout
    again = longwick(stack.url, "cancel", run_id)
    assert again.returncode in (0, 1)


def test_what_waits_is_listed_in_its_order(stack: Stack, tmp_path: Path) -> None:
    first = stack.run(f"wait {tmp_path / 'gate'}")
    waiting = [stack.run(f"say {n} 0", thread=first["thread_id"]) for n in (1, 2, 3)]
    stack.http.patch(f"/runs/{waiting[2]['id']}", json={"before": waiting[0]["id"]})
    listed = [json.loads(line) for line in longwick(stack.url, "ps", "--json").stdout.splitlines()]
    inputs = [run["input"] for run in listed if run["thread_id"] == first["thread_id"]]
    assert inputs == ["say 2 0", "say 1 0", "say 3 0", first["input"]]
    (tmp_path / "gate").touch()
    assert [stack.settled(run)["output_text"] for run in waiting] == ["0 ", "0 1 ", "0 1 2 "]


def ask(stack: Stack, run: Json, command: str) -> str:
    """Have the attempt of a run ask for leave, as its worker does; the id of the approval."""
    database = Database(stack.environ["LONGWICK_DATABASE_URL"])
    try:
        asked = database.write(
            lambda db: approvals.request(db, db.get_one(Run, run["id"]), "Bash", {"command": command}, 60).id
        )
    finally:
        database.dispose()
    return asked


def test_what_needs_leave_is_shown_listed_and_decided(stack: Stack, tmp_path: Path) -> None:
    run = stack.run(f"say 1 0; wait {tmp_path / 'gate'}")
    wait_for(lambda: stack.text_of(run), what="the run to be at work")
    first, second = ask(stack, run, "ls"), ask(stack, run, "rm -r .")
    listed = longwick(stack.url, "approvals").stdout.splitlines()
    assert listed[0].split() == ["APPROVAL", "RUN", "ASKED", "WHAT"]
    of_run = [line for line in listed if run["id"] in line]
    assert [line.split()[0] for line in of_run] == [second, first]
    assert 'Bash(command="rm -r .")' in of_run[0]
    lines = longwick(stack.url, "approvals", "--json").stdout.splitlines()
    assert {first, second} <= {json.loads(line)["id"] for line in lines}

    assert longwick(stack.url, "allow", first).returncode == 0
    denied = longwick(stack.url, "deny", second, "--message", "Not here.")
    assert (denied.returncode, denied.stdout, denied.stderr) == (0, "", 'denied: Bash(command="rm -r .")\n')
    again = longwick(stack.url, "allow", second)
    assert (again.returncode, again.stderr) == (1, "longwick: this approval is denied already\n")
    assert run["id"] not in longwick(stack.url, "approvals").stdout
    with Client(stack.url) as client:
        found = {each.id: (each.status, each.message) for each in client.list_approvals(status=())}
    assert (found[first], found[second]) == (("allowed", None), ("denied", "Not here."))

    (tmp_path / "gate").touch()
    done = longwick(stack.url, "attach", run["id"])
    assert f'? Bash(command="ls") needs leave: `longwick allow {first}` or `longwick deny {first}`' in done.stderr
    assert "? Bash is denied: Not here." in done.stderr


def test_what_takes_nothing_more_says_so(stack: Stack, tmp_path: Path) -> None:
    run = stack.run(f"wait {tmp_path / 'gate'}")
    said = longwick(stack.url, "say", run["id"], "And in blue.")
    assert (said.returncode, said.stdout) == (1, "")
    assert "takes nothing more until its turn is over" in said.stderr
    (tmp_path / "gate").touch()
    stack.settled(run)


def test_a_conversation_goes_on_in_its_thread(stack: Stack) -> None:
    first = longwick(stack.url, "run", "say 1 0", "--agent", "script", "--background", "--json")
    run = json.loads(first.stdout)
    stack.settled(run)
    done = longwick(stack.url, "run", "history", "--thread", run["thread_id"])
    assert json.loads(done.stdout) == [["user", "say 1 0"], ["assistant", "0 "]]


def test_files_are_listed_and_saved(stack: Stack, tmp_path: Path) -> None:
    run = stack.run("leave a/b.txt; save c.txt")
    stack.settled(run)
    files = {file["name"]: file for file in stack.get(f"/runs/{run['id']}/artifacts")["data"]}
    content = stack.http.get(f"/artifacts/{files['a/b.txt']['id']}/content").content
    listed = longwick(stack.url, "artifacts", "ls", run["id"]).stdout
    assert all(file["id"] in listed and name in listed for name, file in files.items())
    lines = longwick(stack.url, "artifacts", "ls", run["thread_id"], "--json").stdout.splitlines()
    assert {json.loads(line)["id"] for line in lines} == {file["id"] for file in files.values()}
    saved = longwick(stack.url, "artifacts", "get", run["id"], "--save-to", tmp_path)
    assert saved.returncode == 0
    assert (tmp_path / "a" / "b.txt").read_bytes() == content
    assert (tmp_path / "c.txt").read_text() == f"made by {run['id']}\n"
    (tmp_path / "c.txt").write_text("mine")
    refused = longwick(stack.url, "artifacts", "get", files["c.txt"]["id"], "--save-to", tmp_path)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    assert (tmp_path / "c.txt").read_text() == "mine"
    forced = longwick(stack.url, "artifacts", "get", files["c.txt"]["id"], "--save-to", tmp_path, "--force")
    assert (forced.returncode, (tmp_path / "c.txt").read_text()) == (0, f"made by {run['id']}\n")
    printed = longwick(stack.url, "artifacts", "get", files["c.txt"]["id"], "--stdout")
    assert printed.stdout == f"made by {run['id']}\n"


def test_the_files_of_a_run_are_saved_on_request_in_their_newest_version(stack: Stack, tmp_path: Path) -> None:
    first = stack.run("leave a.txt")
    stack.settled(first)
    words = ("--thread", first["thread_id"], "--save-to", tmp_path)
    done = longwick(stack.url, "run", "leave a.txt; leave b/c.txt", *words)
    assert done.returncode == 0
    assert "left by run_" in (tmp_path / "a.txt").read_text()
    assert first["id"] not in (tmp_path / "a.txt").read_text()
    assert f"saved {tmp_path / 'b/c.txt'}" in done.stderr
    again = longwick(stack.url, "run", "leave a.txt", *words)
    assert again.returncode == 1
    assert f"not saved: {tmp_path / 'a.txt'} is there already" in again.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run", "hello"),
        ("ps",),
        ("approvals",),
        ("allow", "apr_1"),
        ("say", "run_1", "more"),
        ("attach", "run_1"),
        ("cancel", "run_1"),
        ("artifacts", "ls", "run_1"),
    ],
    ids=str,
)
def test_without_a_server_each_command_says_so_and_exits_1(words: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = longwick(url, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"longwick: no Longwick answers at {url} (Connection refused); `longwick up` starts one"
    )
    assert len(done.stderr.splitlines()) == 1


def test_what_the_server_refuses_is_said_in_a_line(stack: Stack) -> None:
    done = longwick(stack.url, "run", "hello", "--agent", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("longwick: agent: there is no agent 'nobody', only demo,")


def test_a_reader_that_goes_away_ends_the_command_and_not_the_run(stack: Stack, tmp_path: Path) -> None:
    text = f"say 300 0.005; leave {tmp_path.name}.txt"
    line = f"'{LONGWICK}' run '{text}' --agent script --json | head -n 1"
    env = {**os.environ, "LONGWICK_URL": stack.url}
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["type"] == "run.queued"
    assert "Traceback" not in done.stderr
    assert stack.settled(the_run(stack, text))["status"] == "succeeded"


def test_a_shell_completes_commands_agents_and_runs(stack: Stack) -> None:
    run = stack.run("say 1 0")
    env = {**os.environ, "LONGWICK_URL": stack.url, "_LONGWICK_COMPLETE": "complete_bash"}

    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        done = subprocess.run([LONGWICK], env={**env, **words}, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout.split()

    assert completed("longwick att") == ["attach"]
    assert completed("longwick run x --agent de") == ["demo"]
    assert run["id"] in completed(f"longwick attach {run['id'][:-2]}")
    env["LONGWICK_URL"] = "http://127.0.0.1:1"
    assert completed("longwick attach run_") == []


def test_what_is_used_is_a_table_or_json(stack: Stack) -> None:
    shown = longwick(stack.url, "usage")
    rows = {line.rsplit(None, 2)[0]: line.split()[-1] for line in shown.stdout.splitlines()}
    assert (rows["queued"], rows["running"], rows["requests per second"]) == ("10000", "none", "200")
    assert "tokens today, which ends " in shown.stderr
    assert json.loads(longwick(stack.url, "usage", "--json").stdout)["streams"]["limit"] == 1000
