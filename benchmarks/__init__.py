"""Measures the real thing: every tier as its own process, real CLIs as subprocesses, and clients over HTTP.

`python -m benchmarks --help`; docs/benchmarks.md has the method and the figures.
"""

import sys
from pathlib import Path

# The tests' PostgreSQL and their way of running commands serve here, too.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
