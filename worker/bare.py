"""A CLI without a sandbox: a child of the worker, like any other of its user's processes."""

import errno
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def start(argv: Sequence[str], env: Mapping[str, str], folder: Path) -> "subprocess.Popen[bytes]":
    """Start it; the thread that does must live as long as the CLI.

    Raises:
        OSError: it could not be started.
    """
    return subprocess.Popen(  # noqa: S603 - a profile of the operator names it
        [_setpriv(), "--pdeathsig", "KILL", "--", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=folder,
        start_new_session=True,
        bufsize=0,
    )


def _setpriv() -> str:
    """On the worker's own PATH, whatever the agent's is."""
    found = shutil.which("setpriv")
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "setpriv (util-linux) is not installed")
    return found
