"""docs/operations.md against what it speaks of."""

import re
from inspect import signature
from pathlib import Path

from longwick.database import Database
from web.app import POOL_SIZE
from worker.parts import pool_size

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_the_settings_of_proxies_on_the_page_are_those_that_are_tested() -> None:
    for name in ("nginx.conf", "Caddyfile"):
        assert (ROOT / "deploy" / name).read_text() in PAGE, name


def test_the_connections_of_the_page_are_those_of_the_pools() -> None:
    # A pool may overflow by its own size.
    default = 2 * signature(Database).parameters["pool_size"].default
    worker = 2 * pool_size(16)
    assert f"| web | {2 * POOL_SIZE} |" in PAGE
    assert f"| MCP server | {default} |" in PAGE
    assert f"2 × (`LONGWICK_CONCURRENCY` + {pool_size(0)}): {worker} with 16" in PAGE
    both = 2 * (2 * POOL_SIZE + default + worker) + 10
    assert f"Two of each with 16 runs at once: {both}." in PAGE
    compose = (ROOT / "docker-compose.yml").read_text()
    assert f"A worker may hold {worker} connections, web {2 * POOL_SIZE}, the MCP server {default};" in compose
    allowed = re.findall(r"max_connections=(\d+)", compose)
    assert int(allowed[0]) >= both
