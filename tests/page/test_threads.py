"""The list of threads."""

import re
from pathlib import Path

from playwright.sync_api import expect
from stack import Stack
from tab import OpenTab, b64, wait_for_quiet


def test_a_thread_is_found_by_what_was_said_in_it(open_tab: OpenTab, stack: Stack) -> None:
    stack.settled(stack.run(f"print {b64('There stood a lighthouse by the harbour.')}"))
    stack.settled(stack.run("say 1 0"))
    tab = open_tab()
    tab.page.keyboard.press("Control+k")
    expect(tab.page.locator("#search")).to_be_focused()
    tab.page.keyboard.type("harbour light")
    expect(tab.page.locator("#threads .thread")).to_have_count(1)
    expect(tab.page.locator("#threads .excerpt mark").first).to_have_text(re.compile("^light|harbour$"))
    tab.page.locator("#threads .thread a").click()
    expect(tab.turn()).to_contain_text("There stood a lighthouse")
    tab.page.locator("#search").fill("nothing is called that")
    expect(tab.page.get_by_text("Nothing found.")).to_be_visible()
    tab.page.locator("#search").press("Escape")
    assert tab.page.locator("#threads .thread").count() > 1


def test_a_thread_is_renamed_deleted_and_brought_back(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    tab.send("say 1 0")
    tab.wait_for_end()
    thread = tab.thread
    item = tab.page.locator(f"#threads li:has(a[href='#{thread}'])")
    item.hover()
    item.get_by_role("button", name="Rename").click()
    expect(tab.page.get_by_label("Name of the thread")).to_be_focused()
    tab.page.keyboard.type("Candles & <b>wicks</b>")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#title")).to_have_text("Candles & <b>wicks</b>")
    expect(tab.page).to_have_title("Candles & <b>wicks</b> · Longwick")

    item.hover()
    item.get_by_role("button", name="Delete").click()
    expect(item).to_have_count(0)
    expect(tab.page.locator(".welcome small")).to_contain_text("Agents work without a sandbox here")
    assert stack.http.get(f"/threads/{thread}").status_code == 404
    tab.button("Undo").click()
    expect(item).to_have_count(1)
    expect(tab.turn()).to_contain_text("0")
    assert stack.get(f"/threads/{thread}")["title"] == "Candles & <b>wicks</b>"


def test_what_came_to_its_end_unseen_is_marked_until_it_is_seen(
    open_tab: OpenTab, stack: Stack, tmp_path: Path
) -> None:
    wait_for_quiet(stack)
    gate = tmp_path / "gate"
    run = stack.run(f"wait {gate}; say 1 0")
    tab = open_tab()
    item = tab.page.locator(f"#threads li:has(a[href='#{run['thread_id']}'])")
    expect(item).to_have_class(re.compile("running"))
    expect(tab.page.locator(".tray-button .badge")).to_be_visible()
    gate.touch()
    expect(item).to_have_class(re.compile("unread"))
    expect(tab.page).to_have_title(re.compile(r"^\(1\)"))
    expect(tab.page.locator("link[rel=icon]")).to_have_attribute("href", re.compile("icon-marked.svg"))
    tab.page.reload()
    expect(item).to_have_class(re.compile("unread"))
    item.locator("a").click()
    expect(item).not_to_have_class(re.compile("unread"))
    expect(tab.page).not_to_have_title(re.compile(r"^\("))
    tab.page.wait_for_function(
        "id => fetch(`/api/v1/threads/${id}`).then(a => a.json()).then(t => !t.unread)", arg=run["thread_id"]
    )
