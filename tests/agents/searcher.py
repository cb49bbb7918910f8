"""A CLI that looks for what it must not have: `searcher.py`, told where to look by its turn's text, which is JSON.

{"canaries": [...], "paths": [...], "ports": [...], "abstract": NAME, "trace": [PID, ...],
 "door": URL or null, "top": FOLDER}

Canaries are written backwards, so that asking for them does not plant them. Its result is JSON, too: what it has found,
by the kind of place; nothing that it was made to have is in it.
"""

import contextlib
import ctypes
import json
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PTRACE_ATTACH = 16
LARGEST = 2**20
SKIPPED = ("/proc", "/sys", "/usr", "/dev", "/lib", "/lib64", "/bin", "/sbin", "/nix")
OUTSIDE = [("169.254.169.254", 80), ("1.1.1.1", 53), ("10.0.0.1", 22)]


def contents(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(LARGEST)
    return b""


def files(top: str) -> Iterator[str]:
    """All files below, as far as can be seen, without the system's and Python's own."""
    prefix = os.path.realpath(sys.base_prefix)
    for parent, folders, names in os.walk(top):
        folders[:] = [
            name
            for name in folders
            if not os.path.join(parent, name).startswith(SKIPPED) and os.path.join(parent, name) != prefix
        ]
        yield from (os.path.join(parent, name) for name in names)


def is_socket(path: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    return False


def connects(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(address)
        except OSError:
            return False
    return True


def is_let_through(door: str, target: str) -> bool:
    """Whether the way out leads to it."""
    host, port = door.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as way:
        way.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return b" 200" in way.recv(100).partition(b"\r\n")[0]


def writable(folder: str) -> bool:
    mine = os.path.join(folder, ".searched")
    try:
        Path(mine).write_text("mine")
        os.unlink(mine)
    except OSError:
        return False
    return True


def search(told: dict[str, Any]) -> dict[str, list[str]]:
    canaries = [canary[::-1].encode() for canary in told["canaries"]]

    def betrays(data: bytes) -> bool:
        return any(canary in data for canary in canaries)

    processes = [name for name in os.listdir("/proc") if name.isdigit()]
    libc = ctypes.CDLL(None, use_errno=True)
    family = {str(os.getpid()), str(os.getppid())}
    found: dict[str, list[str]] = {
        "environment": [name for name, value in os.environ.items() if betrays(f"{name}={value}".encode())],
        "processes": [
            f"{pid}/{what}"
            for pid in processes
            for what in ("environ", "cmdline", "maps")
            if betrays(contents(f"/proc/{pid}/{what}"))
        ],
        "strangers": [
            pid
            for pid in processes
            if pid not in family and b"bwrap" not in contents(f"/proc/{pid}/cmdline").split(b"\0")[0]
        ],
        "descriptors": [
            f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}"
            for number in os.listdir("/proc/self/fd")
            if int(number) > 2
            and os.path.exists(f"/proc/self/fd/{number}")
            # The listing itself.
            and not os.readlink(f"/proc/self/fd/{number}").startswith(f"/proc/{os.getpid()}")
        ],
        "paths": [path for path in told["paths"] if os.path.exists(path)],
        "files": [path for path in files(told["top"]) if betrays(path.encode()) or betrays(contents(path))],
        "shared memory": [name for name in os.listdir("/dev/shm") if betrays(name.encode())],
        "sockets": [path for path in files(told["top"]) if is_socket(path)],
        "ports": [str(port) for port in told["ports"] if connects(socket.AF_INET, ("127.0.0.1", port))],
        "outside": [f"{host}:{port}" for host, port in OUTSIDE if connects(socket.AF_INET, (host, port))],
        "abstract": [told["abstract"]] if connects(socket.AF_UNIX, "\0" + told["abstract"]) else [],
        # Whoever is traced stands still: only where nobody should be to be had is it tried.
        "traced": [str(pid) for pid in told["trace"] if libc.ptrace(PTRACE_ATTACH, pid, None, None) == 0],
        "writable": [
            folder
            for folder in (
                "/",
                "/etc",
                "/usr/bin",
                "/dev",
                "/run",
                os.path.dirname(sys.executable),
                os.path.dirname(os.path.realpath(sys.executable)),
                os.path.dirname(__file__),
            )
            if writable(folder)
        ],
        "capabilities": [
            line
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith(("CapEff", "CapPrm", "CapAmb")) and int(line.split()[1], 16)
        ],
        "let through": [
            target
            for target in [f"127.0.0.1:{port}" for port in told["ports"]] + ["169.254.169.254:80", "localhost:22"]
            if told["door"] and is_let_through(told["door"], target)
        ],
    }
    with contextlib.suppress(OSError):
        found["outside"] += [str(socket.getaddrinfo("example.com", 443))]
    return {kind: places for kind, places in found.items() if places}


def main() -> None:
    told = json.loads(json.loads(sys.stdin.readline())["text"])
    sys.stdout.write(json.dumps({"type": "result", "text": json.dumps(search(told))}) + "\n")


if __name__ == "__main__":
    main()
