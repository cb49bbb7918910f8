"""The page, used in a real browser as a person uses it, against the whole product."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route, expect, sync_playwright
from stack import Json, Stack
from waiting import wait_for

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
WAIT_MS = 15_000
MISCHIEF = """<img src=x onerror="window.hacked=1"><b>bold</b><script>window.hacked=1</script>"""


class Tab:
    """A tab with the page in it."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._stack = stack
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        # What the content security policy stops is told as an error too.
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def send(self, text: str, agent: str = "script") -> None:
        """Choose the agent, type, press Enter."""
        self.page.select_option("#agent", agent)
        self.page.fill("#input", text)
        expect(self.page.locator("#send")).to_be_enabled()  # one message at a time
        self.page.press("#input", "Enter")

    def turn(self, number: int = -1) -> Locator:
        """One turn of the thread, the last by default."""
        turns = self.page.locator("article")
        return turns.last if number == -1 else turns.nth(number)

    def state(self, number: int = -1) -> Locator:
        """The words that say where a turn stands."""
        return self.turn(number).locator("footer span")

    def wait_for_end(self, turns: int = 1) -> None:
        """Until the thread has that many turns, and all are over."""
        expect(self.page.locator("article")).to_have_count(turns)
        expect(self.page.locator("article[aria-busy=false]")).to_have_count(turns)

    def answer(self, number: int = -1) -> str:
        """The answer of a turn as it is shown now, to the letter."""
        return "".join(self.turn(number).locator(".answer .text").all_text_contents())

    def runs(self) -> list[Json]:
        """The runs of the thread, as the API knows them."""
        thread = self.page.evaluate("location.hash.slice(1)")
        runs: list[Json] = self._stack.get(f"/runs?thread_id={thread}")["data"]
        return sorted(runs, key=lambda run: str(run["id"]))

    def too_wide(self) -> list[str]:
        """What can be scrolled sideways."""
        script = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.id || e.tagName)"
        found: list[str] = self.page.locator("html, body, main, #log, #turns, article").evaluate_all(script)
        return found


class OpenTab(Protocol):
    """Opens the page in a new tab; what its console complains about fails the test."""

    def __call__(self, width: int = 1280, thread: str = "", of: Stack | None = None) -> Tab: ...


@pytest.fixture
def engine_name() -> str:
    """The page knows nothing of the record: one engine is enough."""
    return "sqlite"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        missing = "the page tests need Chromium: `make browser` says how to get it"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Of the module, not the session: while it is open, no other test of this thread can run an event loop.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: Browser, stack: Stack) -> Iterator[OpenTab]:
    expect.set_options(timeout=WAIT_MS)
    context = browser.new_context()
    tabs: list[Tab] = []

    def start(width: int = 1280, thread: str = "", of: Stack | None = None) -> Tab:
        tab = Tab(context.new_page(), of or stack)
        tab.page.set_viewport_size({"width": width, "height": 800})
        tab.page.goto(f"{(of or stack).url}/#{thread}")
        tabs.append(tab)
        return tab

    yield start
    context.close()
    assert [tab.complaints for tab in tabs if tab.complaints] == []


def test_an_answer_is_seen_while_it_is_written(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"say 3 0; wait {gate}; say 2 0")

    expect(tab.turn().locator(".answer .text")).to_have_text("0 1 2")
    expect(tab.turn()).to_have_attribute("aria-busy", "true")
    expect(tab.page.locator("#threads .active")).to_have_count(1)
    gate.touch()
    tab.wait_for_end()

    expect(tab.turn().locator(".asked")).to_have_text(f"say 3 0; wait {gate}; say 2 0")
    assert tab.answer() == tab.runs()[0]["output_text"] == "0 1 2 0 1 "
    expect(tab.page.locator("#input")).to_have_value("")
    expect(tab.page.locator("#threads .active")).to_have_count(0)


def test_a_reload_and_a_second_tab_in_the_middle_miss_nothing_and_show_nothing_twice(
    open_tab: OpenTab, stack: Stack
) -> None:
    tab = open_tab()
    tab.send("Tell me slowly for 8 s about the sea", agent="demo")
    expect(tab.turn()).to_contain_text("second 1 of 8")

    tab.page.reload()
    other = open_tab(thread=tab.runs()[0]["thread_id"])

    for one in (tab, other):
        expect(one.turn()).to_contain_text("second 1 of 8")
        expect(one.turn()).to_have_attribute("aria-busy", "true")
    tab.wait_for_end()
    other.wait_for_end()
    late = open_tab(thread=tab.runs()[0]["thread_id"])
    late.wait_for_end()
    whole = stack.settled(tab.runs()[0])["output_text"]
    assert "second 8 of 8" in whole
    assert [tab.answer(), other.answer(), late.answer()] == [whole] * 3


def test_the_loss_of_the_web_tier_in_the_middle_loses_nothing(
    open_tab: OpenTab, own_stack: Stack, tmp_path: Path
) -> None:
    tab = open_tab(of=own_stack)
    gate = tmp_path / "gate"
    tab.send(f"say 20 0.05; wait {gate}; say 20 0.05")
    expect(tab.turn()).to_contain_text("19 ")

    killed = own_stack.kill("web")
    gate.touch()
    wait_for(lambda: own_stack.pid("web") != killed, 20, "another web process")
    tab.wait_for_end()

    assert tab.answer() == own_stack.settled(tab.runs()[0])["output_text"]
    assert tab.answer().split() == [*map(str, range(20))] * 2
    tab.complaints.clear()  # the browser says that its connection broke


def test_stop_cancels_the_run_and_keeps_what_was_said(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    tab.send("Tell me slowly for 60 s about the sea", agent="demo")
    expect(tab.turn()).to_contain_text("second 1 of 60")

    tab.turn().get_by_role("button", name="Stop").click()

    expect(tab.state()).to_have_text("Stopped")
    assert tab.runs()[0]["status"] == "cancelled"
    assert tab.answer() == stack.settled(tab.runs()[0])["output_text"]
    tab.page.reload()
    expect(tab.state()).to_have_text("Stopped")
    assert "second 1 of 60" in tab.answer()


def test_a_second_message_is_shown_in_the_queue_and_answered_after_the_first(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"wait {gate}; say 2 0")
    expect(tab.state()).to_contain_text("Working")
    tab.send("history")
    tab.send("say 1 0")

    for number in (1, 2):
        expect(tab.state(number)).to_contain_text("Queued")
    tab.turn(2).get_by_role("button", name="Stop").click()
    expect(tab.state(2)).to_have_text("Stopped")
    gate.touch()
    tab.wait_for_end(3)

    assert [run["status"] for run in tab.runs()] == ["succeeded", "succeeded", "cancelled"]
    assert tab.answer(0) == "0 1 "
    assert '"assistant", "0 1 "' in tab.answer(1)


def test_a_file_can_be_downloaded_and_a_tool_call_unfolded_wherever_one_reads(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    tab.send("save report.txt; say 3000 0")
    tab.wait_for_end()
    (artifact,) = stack.get(f"/runs/{tab.runs()[0]['id']}/artifacts")["data"]
    content = stack.http.get(f"/artifacts/{artifact['id']}/content").content

    def download() -> tuple[str, bytes]:
        with tab.page.expect_download() as downloading:
            tab.page.locator("a.artifact").click()
        return downloading.value.suggested_filename, downloading.value.path().read_bytes()

    tab.page.locator("#log").evaluate("log => log.scrollTop = 0")
    assert download() == ("report.txt", content)
    tab.page.locator("summary").click()
    expect(tab.page.locator("details.tool").get_by_text("Saved report.txt")).to_be_visible()
    assert tab.page.locator("#log").evaluate("log => log.scrollTop") < 100

    tab.page.reload()
    tab.wait_for_end()
    assert download() == ("report.txt", content)


def test_html_in_messages_titles_tools_and_names_is_text(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send(MISCHIEF, agent="demo")
    tab.wait_for_end()
    tab.send(f"Make an HTML page about {MISCHIEF}", agent="demo")
    tab.wait_for_end(2)

    for _ in range(2):
        expect(tab.turn(0).locator(".asked")).to_have_text(MISCHIEF)
        expect(tab.turn(0).locator(".answer")).to_contain_text(f"You wrote: “{MISCHIEF}”")
        expect(tab.page.locator("#title")).to_contain_text("<b>bold</b>")
        expect(tab.page.locator("#threads [aria-current]")).to_contain_text("<b>bold</b>")
        assert tab.page.locator("body").locator("img, b, script").count() == 0
        assert tab.page.evaluate("'hacked' in window") is False
        tab.page.reload()
        tab.wait_for_end(2)


def test_a_failed_run_says_why_and_can_be_tried_again(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    tab.send("say 2 0; exit 3")
    tab.wait_for_end()
    run = stack.settled(tab.runs()[0])

    for _ in range(2):
        expect(tab.state()).to_contain_text(f"Failed: cli_exit. {run['error']['message']}")
        assert tab.answer() == "0 1 "
        tab.page.reload()
        tab.wait_for_end()

    tab.turn().get_by_role("button", name="Try again").click()
    tab.wait_for_end(2)
    expect(tab.turn(1).locator(".asked")).to_have_text("say 2 0; exit 3")
    first, again = tab.runs()
    assert (again["input"], again["retry_of"], first["retry_of"]) == (run["input"], run["id"], None)


def test_a_message_whose_receipt_was_lost_is_not_run_twice_when_it_is_sent_again(open_tab: OpenTab) -> None:
    tab = open_tab()

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    tab.page.route("**/runs", lose_the_answer, times=1)
    tab.send("say 1 0")
    expect(tab.page.get_by_role("alert")).to_have_text("The server cannot be reached. Nothing is lost: try again.")
    expect(tab.page.locator("#input")).to_have_value("say 1 0")

    tab.page.press("#input", "Enter")

    tab.wait_for_end()
    expect(tab.page.get_by_role("alert")).to_be_empty()
    assert tab.answer() == "0 "
    assert len(tab.runs()) == 1
    tab.complaints.clear()  # the browser says that a request failed


def test_a_thread_that_is_not_there_is_said_in_words(open_tab: OpenTab) -> None:
    missing = f"thr_{'0' * 26}"
    tab = open_tab(thread=missing)

    expect(tab.page.get_by_role("alert")).to_have_text(f"no thread {missing}")
    tab.complaints.clear()  # the browser says that a request was answered with 404


def test_enter_sends_and_shift_enter_makes_a_new_line(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.page.press("#input", "Enter")
    tab.page.type("#input", "one")
    tab.page.press("#input", "Shift+Enter")
    tab.page.type("#input", "two")
    expect(tab.page.locator("#input")).to_have_value("one\ntwo")
    assert tab.page.locator("article").count() == 0

    tab.page.press("#input", "Enter")

    tab.wait_for_end()
    assert tab.turn().locator(".asked .text").text_content() == "one\ntwo"


def test_nothing_is_wider_than_a_phone(open_tab: OpenTab) -> None:
    tab = open_tab(width=390)
    tab.send(f"{'W' * 300} {'a-long-' * 20}name; leave {'a-long-' * 30}name.txt; say 100 0; save {'n' * 200}; exit 3")
    tab.wait_for_end()
    for summary in tab.page.locator("summary").all():
        summary.click()
    expect(tab.page.locator("details[open]")).to_have_count(tab.page.locator("details").count())
    assert tab.too_wide() == []

    tab.page.get_by_role("button", name="Threads").click()
    expect(tab.page.locator("#threads")).to_be_in_viewport()
    assert tab.too_wide() == []
    tab.page.get_by_role("link", name="New thread").click()
    expect(tab.page.locator("#threads")).to_be_hidden()
    expect(tab.page.locator("#empty")).to_be_visible()
    assert tab.too_wide() == []


def test_threads_can_be_left_and_come_back_to(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"say 2 0; wait {gate}; say 1 0")
    expect(tab.turn().locator(".answer .text")).to_have_text("0 1")
    first = tab.runs()[0]["thread_id"]

    tab.page.get_by_role("link", name="New thread").click()
    tab.send("say 4 0")
    tab.wait_for_end()
    assert tab.answer() == "0 1 2 3 "
    gate.touch()
    tab.page.locator(f"#threads a[href='#{first}']").click()
    expect(tab.page.locator("#title")).to_contain_text("say 2 0")
    tab.wait_for_end()

    assert tab.answer() == "0 1 0 "
    expect(tab.page.locator("#agent")).to_have_value("script")
