"""For everybody: with keys alone, with a screen reader, on a phone, in the dark."""

from playwright.sync_api import BrowserContext, expect
from stack import Stack
from tab import OpenTab, Tab, b64, call

TABLE = "| a | b |\n|---|--:|\n| 1 | 2 |"
RICH = f"## Tides\n\n{TABLE}\n\n```python\nprint(1)\n```\n\n1. one\n2. [two](https://example.org)\n\n> $x^2$"


def fill(tab: Tab, *, wide: str = "") -> None:
    """A thread with something of everything in it."""
    report = b64("a,b\n1,2\n")
    steps = [f"think {b64('Hm. ' + wide)}", call("shell" + wide, "done", input={"command": "ls " + wide})]
    steps += [f"print {b64(RICH + wide)}", f"keep report{wide}.csv {report}", "exit 3"]
    tab.send("; ".join(steps))
    expect(tab.page.locator(".artifact-card")).to_have_count(1)
    tab.wait_for_end()
    expect(tab.page.locator("summary")).to_have_count(2)
    for summary in tab.page.locator("summary").all():
        summary.click()
    expect(tab.page.locator("details[open]")).to_have_count(2)


def test_axe_finds_nothing_in_light_and_dark(open_tab: OpenTab) -> None:
    for dark in (False, True):
        tab = open_tab(dark=dark)
        expect(tab.page.locator(".welcome")).to_be_visible()
        assert tab.faults() == []
        fill(tab)
        expect(tab.page.locator(".hljs-built_in")).to_be_visible()
        assert tab.faults() == []
        tab.page.locator(".artifact-open").click()
        expect(tab.page.locator(".sheet-table")).to_be_visible()
        assert tab.faults() == []
        tab.page.keyboard.press("Control+j")
        expect(tab.page.locator(".tray")).to_be_visible()
        assert tab.faults() == []
        tab.page.keyboard.press("Control+/")
        expect(tab.page.locator(".sheet")).to_be_visible()
        assert tab.faults() == []


def test_nothing_is_wider_than_a_phone(open_tab: OpenTab) -> None:
    tab = open_tab(width=360, height=740)
    expect(tab.page.locator(".welcome")).to_be_visible()
    assert tab.too_wide() == []
    fill(tab, wide="W" * 120)
    assert tab.too_wide() == []
    tab.page.locator(".artifact-open").click()
    expect(tab.page.locator(".sheet-table")).to_be_visible()
    assert tab.too_wide() == []
    box = tab.page.locator(".files").bounding_box()
    assert box is not None
    assert box["width"] == 360
    tab.button("All files").click()
    expect(tab.page.locator(".file-list")).to_be_visible()
    assert tab.too_wide() == []
    tab.button("Close").click()

    tab.page.locator(".menu").click()
    expect(tab.page.locator("#threads")).to_be_in_viewport()
    assert tab.too_wide() == []
    tab.page.locator(".new-thread").click()
    expect(tab.page.locator("#threads")).not_to_be_in_viewport()
    expect(tab.page.locator(".welcome")).to_be_visible()


def test_everything_can_be_done_with_keys(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    keys = tab.page.keyboard
    expect(tab.input).to_be_focused()
    tab.page.select_option("#agent", "script")
    keys.press("Escape")
    expect(tab.input).to_be_focused()
    keys.type("keep a.txt YQ==; say 1 0")
    keys.press("Enter")
    tab.wait_for_end()
    expect(tab.input).to_be_focused()
    keys.press("ArrowUp")
    expect(tab.page.get_by_label("The message, to be changed")).to_be_focused()
    keys.press("Escape")
    keys.press("Control+/")
    expect(tab.page.get_by_role("dialog", name="Shortcuts")).to_be_focused()
    keys.press("Escape")
    expect(tab.page.get_by_role("dialog", name="Shortcuts")).to_be_hidden()
    keys.press("Control+.")
    expect(tab.page.locator(".files")).to_be_focused()
    tab.page.locator(".file-list button").focus()
    keys.press("Enter")
    expect(tab.page.locator(".file-body")).to_have_text("a")
    keys.press("Escape")
    expect(tab.page.locator(".files")).to_be_hidden()
    keys.press("Control+b")
    expect(tab.page.locator("#threads")).to_be_hidden()
    keys.press("Control+b")
    keys.press("Control+Shift+o")
    expect(tab.page.locator(".welcome")).to_be_visible()
    expect(tab.input).to_be_focused()
    keys.press("Control+k")
    expect(tab.page.locator("#search")).to_be_focused()
    # The list is told of the new thread, and of its place in it, a little later.
    expect(tab.page.locator("#threads .thread a").first).to_contain_text("keep a.txt")
    keys.press("Tab")
    expect(tab.page.locator("#threads .thread a").first).to_be_focused()
    keys.press("Enter")
    expect(tab.turn()).to_contain_text("keep a.txt")


def test_a_key_pressed_at_once_has_the_last_word(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send("hello")
    tab.wait_for_end()
    # In one task, then as many frames as it takes for everything that was put off.
    focused = tab.page.evaluate("""async () => {
      const press = (key, shiftKey) => dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, ctrlKey: true }));
      press("o", true);
      press("k", false);
      const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      for (let frames = 0; frames < 5; frames++) await frame();
      return document.activeElement.id;
    }""")
    assert focused == "search"


def test_a_look_is_chosen_and_kept(open_tab: OpenTab) -> None:
    tab = open_tab()
    paper = "getComputedStyle(document.body).backgroundColor"
    light = tab.page.evaluate(paper)
    tab.button("Looks: as the system").click()
    tab.button("Looks: light").click()
    expect(tab.button("Looks: dark")).to_be_visible()
    dark = tab.page.evaluate(paper)
    assert dark != light
    tab.page.reload()
    expect(tab.button("Looks: dark")).to_be_visible()
    assert tab.page.evaluate(paper) == dark
    tab.page.emulate_media(color_scheme="dark")
    tab.button("Looks: dark").click()
    assert tab.page.evaluate(paper) == dark


def test_the_page_is_there_before_the_server_has_answered_anything(context: BrowserContext, stack: Stack) -> None:
    page = context.new_page()
    # Never answered.
    page.route("**/api/**", lambda route: None)
    with page.expect_request("**/api/**"):
        page.goto(stack.url)
    expect(page.locator("#input")).to_be_focused()
    page.keyboard.type("hello")
    expect(page.locator("#input")).to_have_value("hello")
