"""Whatever happens to a tab, a line or a server: the same conversation, whole, and nothing twice."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Route, expect
from stack import Stack
from tab import OpenTab, call, wait_for_quiet
from waiting import wait_for


def test_a_reload_and_a_second_tab_in_the_middle_miss_nothing_and_show_nothing_twice(
    open_tab: OpenTab, tmp_path: Path
) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"say 5 0.02; wait {gate}; say 60 0.02")
    expect(tab.turn()).to_contain_text("0 1 2 3 4")

    tab.page.reload()
    other = open_tab(thread=tab.runs()[0]["thread_id"])
    for one in (tab, other):
        expect(one.turn()).to_contain_text("0 1 2 3 4")
        expect(one.turn()).to_have_attribute("aria-busy", "true")
    gate.touch()
    expect(tab.turn()).to_contain_text("4 0 1 2")
    tab.page.reload()
    late = open_tab(thread=tab.runs()[0]["thread_id"])

    for one in (tab, other, late):
        one.wait_for_end()
        assert one.answer().split() == [*map(str, range(5)), *map(str, range(60))]


def test_the_loss_of_the_web_tier_in_the_middle_loses_nothing(
    open_tab: OpenTab, context: BrowserContext, own_stack: Stack, tmp_path: Path
) -> None:
    # On a busy machine the web tier may be away for longer than OFFLINE_AFTER_MS, which never come to their end here.
    context.add_init_script(
        "{ const begin = setTimeout; window.setTimeout = (act, ms) => ms === 4000 ? 0 : begin(act, ms); }"
    )
    tab = open_tab(of=own_stack)
    gate = tmp_path / "gate"
    tab.send(f"say 20 0.05; wait {gate}; say 20 0.05")
    expect(tab.turn()).to_contain_text("19 ")

    killed = own_stack.kill("web")
    gate.touch()
    wait_for(lambda: own_stack.pid("web") != killed, 20, "another web process")
    tab.wait_for_end()

    assert tab.answer().split() == [*map(str, range(20))] * 2
    # Nothing was said of it: it was over before anyone needed to know.
    assert tab.page.locator(".offline").count() == 0
    tab.complaints.clear()  # the browser says that its connection broke


def test_what_was_said_while_a_browser_was_offline_is_there_when_it_is_back(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"say 3 0; wait {gate}; say 3 0")
    expect(tab.turn()).to_contain_text("0 1 2")
    [run] = tab.runs()
    tab.page.context.set_offline(True)
    gate.touch()
    tab.stack.settled(run)
    tab.page.context.set_offline(False)
    tab.wait_for_end()
    assert tab.answer() == "0 1 2 0 1 2"
    tab.complaints.clear()  # the browser says that it was offline


def test_seven_tabs_of_one_browser_all_see_their_answers_live(open_tab: OpenTab, stack: Stack, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    runs = [stack.run(f"say 2 0; wait {gate}; say 1 0") for _ in range(7)]
    tabs = [open_tab(thread=run["thread_id"]) for run in runs]
    for tab in tabs:
        expect(tab.turn().locator(".answer .prose")).to_have_text("0 1 ")
    gate.touch()
    for tab in tabs:
        tab.wait_for_end()
        assert tab.answer() == "0 1 0"


def test_a_browser_without_shared_workers_hears_as_much(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    tab.page.add_init_script("delete window.SharedWorker")
    tab.page.reload()
    gate = tmp_path / "gate"
    tab.send(f"say 3 0; wait {gate}; say 3 0")
    expect(tab.turn()).to_contain_text("0 1 2")
    expect(tab.page.locator(".tray-button .badge")).to_be_visible()
    gate.touch()
    tab.wait_for_end()
    assert tab.answer() == "0 1 2 0 1 2"


def test_a_thread_can_be_left_and_come_back_to(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"say 2 0; wait {gate}; say 1 0")
    expect(tab.turn().locator(".answer .prose")).to_have_text("0 1 ")
    first = tab.thread

    tab.page.locator(".new-thread").click()
    tab.send("say 4 0")
    tab.wait_for_end()
    assert tab.answer() == "0 1 2 3"
    gate.touch()
    tab.page.locator(f"#threads a[href='#{first}']").click()
    expect(tab.page.locator("#title")).to_contain_text("say 2 0")
    tab.wait_for_end()
    assert tab.answer() == "0 1 0"
    tab.page.go_back()
    expect(tab.turn().locator(".bubble")).to_have_text("say 4 0")


def test_a_message_from_elsewhere_appears_in_an_open_thread(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    tab.send("say 1 0")
    tab.wait_for_end()
    stack.run("say 2 0", thread=tab.thread)
    tab.wait_for_end(2)
    assert tab.answer(1) == "0 1"


def test_what_the_feed_tells_while_a_thread_is_opened_is_not_forgotten(
    open_tab: OpenTab, stack: Stack, tmp_path: Path
) -> None:
    wait_for_quiet(stack)
    thread = stack.settled(stack.run("say 1 0"))["thread_id"]
    tab = open_tab()

    def answer_late(route: Route) -> None:
        answer = route.fetch()
        attached = stack.http.post(f"/threads/{thread}/files", files={"file": ("a.txt", b"hello")})
        assert attached.status_code == 201
        stack.run(f"wait {tmp_path / 'gate'}; say 2 0", thread=thread)
        expect(tab.page.locator(".head-files .badge")).to_have_text("1")
        expect(tab.page.locator(".tray-button .badge")).to_have_text("1")
        route.fulfill(response=answer)

    tab.page.route(f"**/threads/{thread}/artifacts?*", answer_late)
    tab.page.goto(f"{stack.url}/#{thread}")
    expect(tab.page.locator("article")).to_have_count(2)
    expect(tab.page.locator(".head-files .badge")).to_have_text("1")
    (tmp_path / "gate").touch()
    tab.wait_for_end(2)
    assert tab.answer(1) == "0 1"


def test_a_log_that_cannot_be_read_is_read_a_little_later(open_tab: OpenTab, stack: Stack) -> None:
    run = stack.settled(stack.run(f"{call('shell', 'a.txt')}; exit 3"))
    tab = open_tab()
    busy: list[str | None] = []

    def fail(route: Route) -> None:
        busy.append(tab.turn().get_attribute("aria-busy"))
        route.abort()

    tab.page.route(f"**/runs/{run['id']}/events?*", fail, times=1)
    tab.page.goto(f"{stack.url}/#{run['thread_id']}")
    tab.wait_for_end()
    expect(tab.turn().locator("details")).to_have_count(1)
    assert busy == ["true"]
    tab.complaints.clear()  # the browser says that a request failed
