"""How many files a tier may have open."""

import subprocess
import sys


def test_a_tier_has_as_many_as_the_system_allows() -> None:
    code = (
        "import resource; from longwick import descriptors as d; which = resource.RLIMIT_NOFILE\n"
        "resource.setrlimit(which, (256, 2000)); d.raise_limit(); print(resource.getrlimit(which))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "(2000, 2000)\n"
