import logging
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from kombu import Connection
from processes import Launch
from waiting import wait_for

from longwick import valkey
from longwick.errors import BadSetting
from longwick.valkey import Valkey

SERVE = """
import signal, sys
from pathlib import Path
from longwick.valkey import Valkey
server = Valkey(Path(sys.argv[1]))
server.start()
print(server.pid, server.url, flush=True)
signal.pause()
"""


@contextmanager
def client(server: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as connected:
        yield connected


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_second_start_on_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "LOCK_SECONDS", 0.1)
    with Valkey(tmp_path) as first:
        with pytest.raises(BadSetting, match="is in use"):
            Valkey(tmp_path).start()
        assert first.alive()


def test_a_folder_is_free_again_after_stop(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    server.start()
    pid = server.pid
    server.stop()
    server.stop()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert (server.alive(), server.pid) == (False, None)
    with Valkey(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting, match="cannot be used"):
        Valkey(tmp_path / "file" / "valkey").start()


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_9_of_the_parent_leaves_no_server_and_its_folder_free(
    frozen: bool, tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "LOCK_SECONDS", 30.0)
    parent = launch([sys.executable, "-c", SERVE, tmp_path / "valkey"])
    pid, url = wait_for(lambda: parent.output.split(), 30, "the server's pid and URL")
    assert psutil.pid_exists(int(pid))
    if frozen:
        psutil.Process(int(pid)).suspend()

    parent.send(signal.SIGKILL)
    with Valkey(tmp_path / "valkey") as successor:  # at once, while the old server may still be ending
        assert successor.url == url
        wait_for(lambda: gone(int(pid)), what="the old server to be gone")


def test_data_password_and_port_survive_a_restart(tmp_path: Path) -> None:
    with Valkey(tmp_path) as before, client(before) as connected:
        connected.set("wick", "lit")
    with Valkey(tmp_path) as after, client(after) as connected:
        assert connected.get("wick") == "lit"
        assert after.url == before.url


def test_data_password_and_port_survive_a_crash(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        url, pid = server.url, server.pid
        with client(server) as connected:
            connected.set("wick", "lit")
        assert pid is not None
        psutil.Process(pid).kill()
        wait_for(lambda: not server.alive(), what="the server to be dead")

        server.start()
        assert server.url == url
        assert server.pid not in (None, pid)
        with client(server) as connected:
            assert connected.get("wick") == "lit"


def test_start_of_a_living_server_changes_nothing(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        pid = server.pid
        server.start()
        assert server.pid == pid


def test_a_client_without_the_password_is_refused(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        with (
            redis.Redis.from_url(f"redis://127.0.0.1:{port}") as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()


def test_the_password_stands_in_one_private_file_only(tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as server:
        password = server.url.split(":")[2].split("@")[0]
        assert password not in " ".join(psutil.Process(server.pid).cmdline())
        holders = [path for path in server.folder.rglob("*") if path.is_file() and password in path.read_text("latin1")]
        assert [path.name for path in holders] == ["valkey.conf"]
        assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        listening = psutil.Process(server.pid).net_connections()
        assert {connection.laddr.ip for connection in listening if connection.status == "LISTEN"} == {"127.0.0.1"}


@pytest.mark.parametrize("name", ["with a space", "quo\"te's", "ünï", "long" * 50, "-c"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    with Valkey(tmp_path / name) as server, client(server) as connected:
        assert connected.ping()
        assert (tmp_path / name / "appendonlydir").is_dir()


def test_celery_takes_the_url(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server, Connection(server.url) as connection:
        connection.ensure_connection(max_retries=1)


def test_a_remembered_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server:
        port = int(server.url.split(":")[-1].split("/")[0])
    with socket.create_server(("127.0.0.1", port)), Valkey(tmp_path) as server, client(server) as connected:
        assert connected.ping()
        assert f":{port}/" not in server.url


def test_a_torn_end_of_its_file_costs_only_that_end(tmp_path: Path) -> None:
    with Valkey(tmp_path) as server, client(server) as connected:
        connected.set("wick", "lit")
    with aof(tmp_path).open("ab") as log:
        log.write(b"*3\r\n$3\r\nSET\r\n$4\r\nwi")
    with Valkey(tmp_path) as server, client(server) as connected:
        assert connected.keys() == ["wick"]


def test_a_broken_file_is_moved_aside_and_the_server_starts_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with Valkey(tmp_path) as server, client(server) as connected:
            connected.set("wick", "lit")
        aof(tmp_path).write_bytes(b"*3\r\n$3\r\nSET\r\nnonsense\r\n" * 10)
        with caplog.at_level(logging.ERROR), Valkey(tmp_path) as server, client(server) as connected:
            assert connected.keys() == []
        assert "starts empty" in caplog.text
        assert "nonsense" in aof(tmp_path, "appendonlydir.broken").read_text()
        caplog.clear()


def aof(folder: Path, name: str = "appendonlydir") -> Path:
    [path] = (folder / name).glob("*.incr.aof")
    return path
