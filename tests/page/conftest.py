"""A browser, and tabs in it, for the tests of the page."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from stack import Stack
from tab import WAIT_MS, OpenTab, Tab

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: the tests may run as root. The rest keeps it from talking to anyone but us.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture
def engine_name() -> str:
    """The page knows nothing of the record: one engine is enough."""
    return "sqlite"


# Of the module, not the session: while it is open, no other test of this process can run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = "the page tests need Chromium: `make browser` says how to get it"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody has used."""
    expect.set_options(timeout=WAIT_MS)
    context = browser.new_context(locale="en-GB", timezone_id="UTC", reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def open_tab(context: BrowserContext, stack: Stack) -> Iterator[OpenTab]:
    tabs: list[Tab] = []

    def start(
        width: int = 1280, thread: str = "", of: Stack | None = None, *, dark: bool = False, height: int = 800
    ) -> Tab:
        tab = Tab(context.new_page(), of or stack)
        tab.page.emulate_media(color_scheme="dark" if dark else "light")
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.goto(f"{(of or stack).url}/#{thread}")
        tab.page.wait_for_selector("body > :not(noscript)", state="attached")
        tabs.append(tab)
        return tab

    yield start
    assert [tab.complaints for tab in tabs if tab.complaints] == []
