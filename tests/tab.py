"""A tab with the page in it, in a real browser, against the whole product."""

import base64
import json
import os
import re
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import ConsoleMessage, Locator, Page, expect
from stack import Json, Stack
from waiting import wait_for

ROOT = Path(__file__).parents[1]
WAIT_MS = 15_000


def b64(text: str | bytes) -> str:
    """A word of the scripted agent that is any text."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Tab:
    """A tab with the page in it."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.stack = stack
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        # What the content security policy stops is told as an error too.
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    @property
    def input(self) -> Locator:
        """Where a message is written."""
        return self.page.locator("#input")

    def send(self, text: str, agent: str = "script") -> None:
        """Choose the agent, type, press Enter."""
        self.page.select_option("#agent", agent)
        self.input.fill(text)
        expect(self.page.locator("#send")).to_be_enabled()  # one message at a time
        self.input.press("Enter")

    def say(self, markdown: str) -> None:
        """Have the agent say this, and wait until it is said."""
        self.send(f"print {b64(markdown)}")
        self.wait_for_end()

    def turn(self, number: int = -1) -> Locator:
        """One turn of the thread, the last by default."""
        turns = self.page.locator("article")
        return turns.last if number == -1 else turns.nth(number)

    def wait_for_end(self, turns: int = 1) -> None:
        """Until the thread shows that many turns, and all are over."""
        expect(self.page.locator("article")).to_have_count(turns)
        expect(self.page.locator("article[aria-busy=false]")).to_have_count(turns)

    def answer(self, number: int = -1) -> str:
        """The words of the answer of a turn as they are shown now."""
        return " ".join(" ".join(self.turn(number).locator(".answer .prose").all_text_contents()).split())

    @property
    def thread(self) -> str:
        """The id of the thread that is open."""
        found: str = self.page.evaluate("location.hash.slice(1)")
        return found

    def runs(self) -> list[Json]:
        """The runs of the thread, as the API knows them."""
        runs: list[Json] = self.stack.get(f"/runs?thread_id={self.thread}")["data"]
        return sorted(runs, key=lambda run: str(run["id"]))

    def button(self, name: str | re.Pattern[str]) -> Locator:
        """A button by what it is called."""
        return self.page.get_by_role("button", name=name)

    def too_wide(self) -> list[str]:
        """What can be scrolled sideways, and should not be."""
        script = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.id || e.className || e.tagName)"
        checked = "html, body, main, .log, .turns, article, .composer, .sidebar, .tray, .files, .files-scroll, .sheet"
        found: list[str] = self.page.locator(checked).evaluate_all(script)
        return found

    def faults(self) -> list[str]:
        """What axe finds that keeps somebody from using the page."""
        axe = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text()
        self.page.evaluate(axe)
        found: dict[str, Any] = self.page.evaluate("axe.run({iframes: false})")
        return [
            f"{one['id']}: {node['target']} {node['any'][:1]}" for one in found["violations"] for node in one["nodes"]
        ]

    def shoot(self, name: str) -> None:
        """A picture for the docs, where they are being made."""
        folder = os.environ.get("PICTURES")
        if folder:
            self.page.wait_for_function("() => document.fonts.status === 'loaded'")
            self.page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


class OpenTab(Protocol):
    """Opens the page in a new tab; what its console complains about fails the test."""

    def __call__(
        self, width: int = 1280, thread: str = "", of: Stack | None = None, *, dark: bool = False, height: int = 800
    ) -> Tab: ...


def wait_for_quiet(stack: Stack) -> None:
    """Until no run is under way: a test before may have left one to end by itself."""
    wait_for(lambda: not stack.get("/runs?status=queued,running,waiting")["data"], what="the runs before to be over")


def call(name: str, output: object, **more: object) -> str:
    """A step of the scripted agent that uses a tool."""
    return f"use {b64(json.dumps({'name': name, 'output': output, 'input': {}, **more}))}"
