"""The first program of a sandbox, which becomes the CLI: run by its path, with the least of Python.

It hands the worker, over a socket, the sandbox's `/proc` and the place where the CLI will look for the worker; takes
the limits upon itself, and gives up what it could do as root. The socket closes as the CLI starts, or says why not.
"""

# `socket` takes longer to import than all else here.
import _socket
import os
import resource
import signal
import sys

OOM_SCORE = "1000"
BACKLOG = 128


def cross(control: _socket.socket, work: str, port: int, user: int, limits: dict[str, int], argv: list[str]) -> None:
    """Become the CLI.

    Raises:
        OSError: it cannot be started.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    # Where the machine runs out of memory, the CLI goes first.
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write(OOM_SCORE)
    for name, most in limits.items():
        kind = getattr(resource, name)
        most = min((most, *(limit for limit in resource.getrlimit(kind) if limit != resource.RLIM_INFINITY)))
        resource.setrlimit(kind, (most, most))
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    os.chdir(work)
    # It is where bubblewrap was.
    os.unsetenv("PWD")
    # Python ignores these, and the CLI would, too.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    # Its group is signalled when it is interrupted.
    os.setsid()
    given = b"".join(number.to_bytes(4, sys.byteorder) for number in (proc, listener.fileno()))
    control.sendmsg([b"here"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, given)])
    for inherited in os.listdir("/proc/self/fd"):
        # All but the listing itself, which is closed by now.
        if int(inherited) > 2 and os.path.exists(f"/proc/self/fd/{inherited}"):
            os.set_inheritable(int(inherited), False)
    os.execvp(argv[0], argv)  # noqa: S606 - a profile of the operator names it


def main() -> None:
    number, work, port, user, limits = sys.argv[1:6]
    control = _socket.socket(fileno=int(number))
    os.set_inheritable(control.fileno(), False)
    try:
        named = (limit.split("=") for limit in limits.split(",") if limit)
        cross(control, work, int(port), int(user), {name: int(most) for name, most in named}, sys.argv[6:])
    except OSError as error:
        control.send(f"{error.errno} {error.strerror}".encode())


if __name__ == "__main__":
    main()
