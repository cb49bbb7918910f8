"""The first program of a sandbox, which becomes the CLI: run by its path, with nothing but the standard library.

It hands the worker, over a socket, the sandbox's `/proc` and the place where the CLI will look for the worker; takes
the limits upon itself, and gives up what it could do as root. The socket closes as the CLI starts, or says why not.
"""

import contextlib
import os
import resource
import signal
import socket
import sys

OOM_SCORE = "1000"


def cross(control: socket.socket, work: str, port: int, user: int, limits: dict[str, int], argv: list[str]) -> None:
    """Become the CLI.

    Raises:
        OSError: it cannot be started.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
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
    os.environ.pop("PWD", None)
    # Python ignores these, and the CLI would, too.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    # Its group is signalled when it is interrupted.
    os.setsid()
    socket.send_fds(control, [b"here"], [proc, listener.fileno()])
    for inherited in os.listdir("/proc/self/fd"):
        if int(inherited) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(inherited), False)
    os.execvpe(argv[0], argv, os.environ)  # noqa: S606 - a profile of the operator names it


def main() -> None:
    number, work, port, user, limits = sys.argv[1:6]
    control = socket.socket(fileno=int(number))
    control.set_inheritable(False)
    try:
        named = (limit.split("=") for limit in limits.split(",") if limit)
        cross(control, work, int(port), int(user), {name: int(most) for name, most in named}, sys.argv[6:])
    except OSError as error:
        control.send(f"{error.errno} {error.strerror}".encode())


if __name__ == "__main__":
    main()
