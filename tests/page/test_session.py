"""The page where nobody gets in without a key: signing in, being somebody, signing out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect
from stack import Stack
from tab import OpenTab, Tab
from waiting import wait_for


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server that is these tests' own, for them to close."""
    with Stack(tmp_path_factory.mktemp("guarded"), {}) as stack:
        yield stack


def longwick(stack: Stack, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command, as the operator of the server types it, or a client of it."""
    environ = {**os.environ, "LONGWICK_DATA_DIR": str(stack.data_dir), "LONGWICK_URL": stack.url, **env}
    command = [str(Path(sys.executable).with_name("longwick")), *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def new_key(stack: Stack, owner: str) -> str:
    made = longwick(stack, "keys", "create", "--owner", owner)
    assert made.returncode == 0, made.stderr
    wait_for(lambda: stack.http.get("/threads").status_code == 401, what="the key to count")
    return made.stdout.strip()


def sign_in(tab: Tab, key: str) -> None:
    tab.page.get_by_label("Key").fill(key)
    tab.button("Sign in").click()
    expect(tab.input).to_be_visible()


def forgive(tab: Tab) -> None:
    """What a browser says of an answer that is 401."""
    tab.complaints = [said for said in tab.complaints if "status of 401" not in said]


def test_who_shows_a_key_is_somebody_until_they_sign_out(guarded: Stack, open_tab: OpenTab) -> None:
    ann, bob = new_key(guarded, "ann"), new_key(guarded, "bob")
    tab = open_tab(of=guarded)
    expect(tab.page.locator("h1")).to_have_text("Sign in to Longwick")
    expect(tab.page.get_by_label("Key")).to_be_focused()
    assert tab.faults() == []
    tab.page.set_viewport_size({"width": 360, "height": 740})
    assert tab.too_wide() == []
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    tab.page.get_by_label("Key").fill(ann[:-1])
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("alert")).to_contain_text("this is no key of this server")
    sign_in(tab, ann)
    expect(tab.page.locator(".who")).to_contain_text("ann")
    assert tab.faults() == []
    tab.send("say 2 0")
    tab.wait_for_end()
    tab.input.fill("a draft of ann's")
    kept = tab.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert ann not in kept
    assert [cookie["httpOnly"] for cookie in tab.page.context.cookies()] == [True]

    other = open_tab(of=guarded)
    expect(other.page.locator("#threads li")).to_have_count(1)
    tab.button("Sign out").click()
    for left in (tab, other):
        expect(left.page.locator("h1")).to_have_text("Sign in to Longwick")
    sign_in(other, bob)
    expect(other.page.locator(".who")).to_contain_text("bob")
    expect(other.page.locator("#threads .none")).to_be_visible()
    expect(other.input).to_have_value("")
    expect(tab.page.locator(".who")).to_contain_text("bob")

    prefix = bob.rpartition("_")[0]
    assert longwick(guarded, "keys", "revoke", prefix).returncode == 0
    for left in (tab, other):
        expect(left.page.locator("h1")).to_have_text("Sign in to Longwick")
        forgive(left)


def test_a_key_that_is_written_before_a_sign_out_is_all_over_stays(guarded: Stack, open_tab: OpenTab) -> None:
    key = new_key(guarded, "dora")
    tab = open_tab(of=guarded)
    sign_in(tab, key)
    tab.send("say 1 0")
    tab.wait_for_end()

    def answer_late(route: Route) -> None:
        answer = route.fetch()
        tab.page.get_by_label("Key").fill("written")
        route.fulfill(response=answer)

    tab.page.route("**/api/v1/session", answer_late, times=1)
    tab.button("Sign out").click()
    tab.page.wait_for_function("() => !location.hash")
    expect(tab.page).to_have_title("Longwick")
    expect(tab.page.get_by_label("Key")).to_have_value("written")
    forgive(tab)


def test_the_terminal_says_that_a_key_is_wanted_and_takes_one(guarded: Stack) -> None:
    key = new_key(guarded, "carl")
    without = longwick(guarded, "ps")
    assert without.returncode == 1
    assert "LONGWICK_API_KEY" in without.stderr
    wrong = longwick(guarded, "run", "say 1 0", LONGWICK_API_KEY=f"{key}x")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "this is no key of this server" in wrong.stderr
    done = longwick(guarded, "run", "say 1 0", "--agent", "script", LONGWICK_API_KEY=key)
    assert done.returncode == 0, done.stderr
    limited = longwick(guarded, "keys", "create", "--owner", "carl", "--scope", "read", "--expires", "1h")
    reading = limited.stdout.strip()
    assert "say 1 0" in longwick(guarded, "ps", "--all", LONGWICK_API_KEY=reading).stdout
    may_not = longwick(guarded, "run", "say 1 0", LONGWICK_API_KEY=reading)
    assert may_not.returncode == 1
    assert "this needs the scope 'write'" in may_not.stderr
    listed = longwick(guarded, "keys", "list").stdout
    assert listed.count("carl") == 2
    assert key not in listed
    assert reading.rpartition("_")[0] in listed
    assert "lets in" in longwick(guarded, "doctor", LONGWICK_API_KEY=key).stdout
    assert longwick(guarded, "keys", "delete", key.rpartition("_")[0]).returncode == 0
    assert longwick(guarded, "keys", "create", "--owner", "a b").returncode == 1
    assert longwick(guarded, "keys", "create", "--owner", "a", "--expires", "soon").returncode == 2
