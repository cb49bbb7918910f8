"""Gives Longwick what nobody would send by accident, for as long as it is told to; docs/security.md has the figures.

`python -m fuzz --help`. Each module is a part with a function `fuzz(seconds, seed)`, which is repeated by its seed.
"""

import sys
from pathlib import Path

# The tests' stack, recordings and translators serve here, too.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
