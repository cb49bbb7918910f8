"""All runs of mine, wherever they were started; and being told of what came to its end."""

import re
from pathlib import Path

from playwright.sync_api import expect
from stack import Stack
from tab import OpenTab, wait_for_quiet
from waiting import wait_for

from longwick import approvals, limits, runs
from longwick.database import Database, Db

# A notification that can be looked at: a browser without a screen shows none.
NOTIFICATIONS = """
window.told = [];
window.Notification = class {
  static permission = "default";
  static requestPermission = async () => (Notification.permission = "granted");
  constructor(title, options) { Object.assign(this, {title, ...options, open: true}); told.push(this); }
  close() { this.open = false; }
};
Object.defineProperty(document, "hidden", {get: () => window.away ?? false});
Object.defineProperty(document, "visibilityState", {get: () => window.away ? "hidden" : "visible"});
document.hasFocus = () => !window.away;
"""


def test_the_tray_shows_every_run_and_stops_it(open_tab: OpenTab, stack: Stack) -> None:
    wait_for_quiet(stack)
    running = stack.run("Tell me slowly for 60 s about the sea", "demo", kind="background")
    waiting = stack.run("say 1 0", thread=running["thread_id"])
    tab = open_tab()
    expect(tab.page.locator(".tray-button .badge")).to_have_text("2")
    tab.page.keyboard.press("Control+j")
    tray = tab.page.locator(".tray")
    ours = tray.locator(".tray-run", has=tab.page.locator(f"a[href='#{running['thread_id']}']"))
    row = ours.and_(tab.page.locator(".running"))
    expect(row).to_contain_text(
        re.compile(r"Working · demo · Background · for [\d.]+ s · last sign of life [\d.]+ s ago")
    )
    expect(ours.and_(tab.page.locator(".queued"))).to_contain_text(re.compile(r"Waiting"))
    row.get_by_role("button", name=re.compile("^Stop")).click()
    expect(tray.get_by_text("Nothing is running.")).to_be_visible()
    assert stack.settled(running)["status"] == "cancelled"
    assert stack.settled(waiting)["status"] == "succeeded"
    expect(ours.and_(tab.page.locator(".cancelled"))).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tray).to_be_hidden()


def test_who_is_away_and_wants_it_is_told_of_an_end_once_and_it_is_withdrawn_when_seen(
    open_tab: OpenTab, stack: Stack, tmp_path: Path
) -> None:
    ended = stack.run("say 1 0")
    stack.settled(ended)
    wait_for_quiet(stack)
    gate = tmp_path / "gate"
    tab = open_tab()
    tab.page.context.add_init_script(NOTIFICATIONS)
    tab.page.reload()
    tab.page.keyboard.press("Control+j")
    tab.page.locator(".bell").click()
    expect(tab.page.locator(".bell")).to_have_attribute("aria-pressed", "true")
    tab.page.keyboard.press("Escape")
    run = stack.run(f"wait {gate}; say 1 0", kind="background")
    expect(tab.page.locator(".tray-button .badge")).to_have_text("1")
    tab.page.evaluate("window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
    gate.touch()
    tab.page.wait_for_function("() => told.length === 1")
    assert tab.page.evaluate("[told[0].title, told[0].tag, told[0].open]") == [
        "Your answer is ready",
        run["thread_id"],
        True,
    ]
    expect(tab.page).to_have_title(re.compile(r"^\(1\)"))

    # Seen in another tab.
    other = open_tab(thread=run["thread_id"])
    other.wait_for_end()
    tab.page.wait_for_function("() => told[0].open === false")
    expect(tab.page).not_to_have_title(re.compile(r"^\("))
    tab.page.reload()
    other.page.reload()
    other.wait_for_end()
    assert tab.page.evaluate("told.length") == 0


def test_a_question_of_an_agent_is_shown_whole_and_answered(open_tab: OpenTab, stack: Stack, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    asking = stack.run(f"wait {gate}")
    wait_for(lambda: stack.status(asking) == "running", what="the run to be running")
    record = Database(stack.environ["LONGWICK_DATABASE_URL"])

    def ask(db: Db) -> None:
        for command in ("rm -r old", "rm -r new"):
            approvals.request(db, runs.get(db, "local", asking["id"]), "shell", {"command": command}, 60)

    record.write(ask)
    record.dispose()
    tab = open_tab(thread=asking["thread_id"])
    expect(tab.turn().locator(".approval.pending")).to_have_count(2)
    first = tab.turn().locator(".approval").first
    expect(first).to_contain_text("The agent wants to use shell")
    expect(first.locator("pre")).to_contain_text("rm -r old")
    expect(tab.turn().locator(".state-words")).to_have_text("Waiting for your decision")
    first.get_by_role("button", name="Allow").click()
    expect(tab.turn().locator(".approval.allowed")).to_contain_text("rm -r old")

    tab.page.keyboard.press("Control+j")
    card = tab.page.locator(".tray .approval.pending")
    expect(card).to_have_count(1)
    expect(card.locator("pre")).to_contain_text("rm -r new")
    card.get_by_label("What it should do instead").fill("keep it")
    card.get_by_role("button", name="Deny").click()
    expect(card).to_have_count(0)
    expect(tab.turn().locator(".approval.denied")).to_contain_text("keep it")
    statuses = {one["status"] for one in stack.get("/approvals")["data"] if one["run_id"] == asking["id"]}
    assert statuses == {"allowed", "denied"}
    gate.touch()
    tab.wait_for_end()


def test_what_is_used_is_shown_and_what_runs_out_says_what_to_do(open_tab: OpenTab, stack: Stack) -> None:
    run = stack.settled(stack.run("cost 0.25"))
    attached = stack.http.post(f"/threads/{run['thread_id']}/files", files={"file": ("a.txt", b"hello")})
    assert attached.status_code == 201
    used = stack.get("/usage")
    record = Database(stack.environ["LONGWICK_DATABASE_URL"])
    most = {"artifacts": used["artifacts"]["used"], "spend_usd_per_day": used["spend_usd_today"]["used"] / 0.9}
    try:
        record.write(lambda db: limits.make_exception(db, "local", most))
        for width, dark in ((1280, False), (360, True)):
            tab = open_tab(width=width, height=740, dark=dark)
            tab.page.keyboard.press("Control+j")
            shown = tab.page.locator(".usage")
            expect(shown.locator(".full")).to_contain_text("Delete a conversation to make room.")
            expect(shown.locator(".near")).to_contain_text(re.compile(r"Spent today.*of \$.*Nearly all"))
            expect(shown.get_by_role("progressbar", name="Runs that wait")).to_be_visible()
            assert tab.faults() == []
            assert tab.too_wide() == []
        record.write(lambda db: limits.end_exception(db, "local"))
        tab = open_tab()
        tab.page.keyboard.press("Control+j")
        expect(tab.page.locator(".usage summary")).to_contain_text("today $")
        expect(tab.page.locator(".usage li").first).to_be_hidden()
    finally:
        record.write(lambda db: limits.end_exception(db, "local"))
        record.dispose()
