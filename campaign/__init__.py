"""Breaks Longwick at random, for as long as it is told to, and holds what is left to what was promised.

`python -m campaign --help`; docs/reliability.md has the method, the promises and the figures.
"""

import sys
from pathlib import Path

# The tests' stack, readers, agents and PostgreSQL serve here, too.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
