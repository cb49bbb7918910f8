"""Where messages are written, and what becomes of those that wait."""

from pathlib import Path

from playwright.sync_api import expect
from tab import OpenTab


def test_enter_sends_and_shift_enter_makes_a_new_line(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.input.press("Enter")
    tab.input.press_sequentially("one")
    tab.input.press("Shift+Enter")
    tab.input.press_sequentially("two")
    expect(tab.input).to_have_value("one\ntwo")
    assert tab.page.locator("article").count() == 0

    tab.input.press("Enter")

    tab.wait_for_end()
    expect(tab.turn().locator(".bubble")).to_have_text("one\ntwo")


def test_of_a_long_message_the_beginning_is_shown_until_all_of_it_is_wanted(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send("say 1 0" + " \n" * 60 + "; say 1 0")
    tab.wait_for_end()
    bubble = tab.turn().locator(".bubble")
    short = bubble.evaluate("bubble => bubble.clientHeight")
    tab.button("Show all of it").click()
    expect(tab.button("Show less")).to_be_visible()
    assert bubble.evaluate("bubble => bubble.clientHeight") > 3 * short


def test_a_draft_is_kept_for_each_thread(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send("say 1 0")
    tab.wait_for_end()
    tab.input.fill("more of this")
    tab.page.locator(".new-thread").click()
    expect(tab.input).to_have_value("")
    tab.input.fill("something else")
    tab.page.reload()
    expect(tab.input).to_have_value("something else")
    tab.page.go_back()
    expect(tab.input).to_have_value("more of this")


def test_messages_that_wait_are_shown_changed_and_withdrawn(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"wait {gate}; say 2 0")
    expect(tab.turn()).to_contain_text("Working")
    tab.send("say 9 0")
    tab.send("say 1 0")
    for number in (1, 2):
        expect(tab.turn(number).locator(".state")).to_contain_text("Waiting")
    tab.turn(2).get_by_role("button", name="Withdraw").click()
    expect(tab.turn(2).locator(".outcome")).to_contain_text("Stopped")
    tab.turn(1).locator(".asked").hover()
    tab.turn(1).get_by_role("button", name="Change the message that waits").click()
    editor = tab.page.get_by_label("The message, to be changed")
    editor.fill("history")
    editor.press("Enter")
    expect(tab.page.locator(".bubble", has_text="history")).to_have_count(1)
    gate.touch()
    expect(tab.page.locator("article[aria-busy=true]")).to_have_count(0)
    expect(
        tab.page.locator("article", has=tab.page.get_by_text("history", exact=True)).locator(".prose")
    ).to_contain_text('"assistant", "0 1 "')


def test_a_message_may_stop_what_goes_on(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send("Tell me slowly for 60 s about the sea", agent="demo")
    expect(tab.turn()).to_contain_text("second 1 of 60")
    tab.page.get_by_label("While an answer is on its way").select_option("interrupt")
    tab.send("say 3 0")
    tab.wait_for_end(2)
    assert [run["status"] for run in tab.runs()] == ["cancelled", "succeeded"]


def test_files_are_attached_by_button_drop_and_paste_and_go_with_the_message(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    (tmp_path / "notes.txt").write_text("of the sea")
    tab.page.set_input_files("#files-input", tmp_path / "notes.txt")
    for kind in ("drop", "paste"):
        tab.page.evaluate(
            """kind => {
                const data = new DataTransfer();
                data.items.add(new File([kind], `${kind}.txt`, {type: "text/plain"}));
                const event = kind === "drop"
                    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
                    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
                document.getElementById("input").dispatchEvent(event);
            }""",
            kind,
        )
    expect(tab.page.locator(".attachments span")).to_have_text(["notes.txt", "drop.txt", "paste.txt"])
    tab.button("Take drop.txt away").click()
    tab.send("say 1 0")
    tab.wait_for_end()
    expect(tab.turn().locator(".attached .artifact-name")).to_have_text(["paste.txt", "notes.txt"])
    expect(tab.turn().locator(".bubble")).to_have_text("say 1 0")
    assert tab.runs()[0]["input"] == "say 1 0\n\n(Attached: notes.txt, paste.txt)"
    expect(tab.page.locator(".attachments")).to_have_count(0)


def test_a_background_run_and_an_agents_choice_are_kept_to(open_tab: OpenTab) -> None:
    tab = open_tab()
    expect(tab.page.locator("#agent option[value=missing]")).to_be_disabled()
    tab.page.get_by_role("checkbox", name="Background").check()
    tab.send("say 1 0")
    tab.wait_for_end()
    assert [(run["kind"], run["agent"]) for run in tab.runs()] == [("background", "script")]
    tab.page.reload()
    expect(tab.page.locator("#agent")).to_have_value("script")


def test_an_agent_at_work_can_be_told_more(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send("Tell me slowly for 60 s about the sea", agent="listener")
    expect(tab.turn()).to_contain_text("second 1 of 60")
    tab.page.get_by_label("While an answer is on its way").select_option("steer")
    tab.send("and the moon", agent="listener")
    expect(tab.turn().locator(".steered")).to_have_text("and the moon")
    expect(tab.input).to_have_value("")
    expect(tab.turn()).to_contain_text("Meanwhile you added: “and the moon”")
    tab.button("Stop the answer").click()
    tab.wait_for_end()
    assert len(tab.runs()) == 1
