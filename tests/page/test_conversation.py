"""The conversation: streamed, laid out, and what can be done with a turn of it."""

import re
from pathlib import Path

from playwright.sync_api import Route, expect
from stack import Stack
from tab import OpenTab, b64, call

PROSE = """## Tides

The sea rises **twice** a day, see [the almanac](https://example.org/tides).

| place | metres |
|:--|--:|
| Fundy | 16 |
| Malta | 0.3 |

```python
def height(hours):
    return 4 * cos(hours)  # metres
```

- [x] measured
- [ ] believed

The law is $F = G \\\\frac{m_1 m_2}{r^2}$, and it costs $5 or $10.

$$\\\\int_0^1 x^2 \\\\, dx = \\\\frac13$$
""".replace("\\\\", "\\")


def test_an_answer_is_seen_while_it_is_written(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(f"say 3 0; wait {gate}; say 2 0")

    expect(tab.turn().locator(".answer .prose")).to_have_text("0 1 2 ")
    expect(tab.turn()).to_have_attribute("aria-busy", "true")
    expect(tab.page.locator("#threads .thread.running a[aria-current]")).to_have_count(1)
    expect(tab.page.locator(".state-words")).to_have_text("Working")
    gate.touch()
    tab.wait_for_end()

    expect(tab.turn().locator(".bubble")).to_have_text(f"say 3 0; wait {gate}; say 2 0")
    assert tab.answer() == tab.runs()[0]["output_text"].strip() == "0 1 2 0 1"
    expect(tab.input).to_have_value("")
    expect(tab.page.locator("#threads .thread.running a[aria-current]")).to_have_count(0)
    expect(tab.page.locator("#announcer")).to_contain_text("The answer is complete. 0 1 2")


def test_markdown_is_laid_out(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.say(PROSE)
    answer = tab.turn().locator(".answer")

    expect(answer.locator("h2")).to_have_text("Tides")
    expect(answer.locator("td").nth(1)).to_have_css("text-align", "right")
    expect(answer.locator("figure .hljs-keyword").first).to_have_text("def")
    expect(answer.locator(".katex")).to_have_count(2)
    expect(answer.locator(".katex-display")).to_have_count(1)
    expect(answer).to_contain_text("it costs $5 or $10")
    expect(answer.locator("a")).to_have_attribute("title", "https://example.org/tides")
    expect(answer.locator("a")).to_have_attribute("rel", "noopener noreferrer")
    expect(answer.locator(".box")).to_have_text(["☑", "☐"])

    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # It says so for a moment only.
    answer.locator(".copy-code").evaluate(
        """button => {
            window.said = [];
            new MutationObserver(() => said.push(button.textContent)).observe(button, {childList: true});
        }"""
    )
    answer.locator(".copy-code").click()
    tab.page.wait_for_function("() => said.includes('Copied')")
    assert "return 4 * cos(hours)" in tab.page.evaluate("navigator.clipboard.readText()")


def test_of_a_growing_answer_only_the_last_block_is_laid_out_again(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    tab.send(
        f"print {b64('# One' + chr(10) * 2 + 'The first.' + chr(10) * 2 + 'The sec')}; wait {gate}; print {b64('ond.')}"
    )
    blocks = tab.turn().locator(".block")
    expect(blocks).to_have_count(3)
    blocks.nth(1).evaluate("block => { block.firstChild.seen = true }")
    gate.touch()
    tab.wait_for_end()
    expect(blocks.nth(2)).to_have_text("The second.")
    assert blocks.nth(1).evaluate("block => block.firstChild.seen") is True


def test_thoughts_and_tools_are_folded_and_say_what_they_were(open_tab: OpenTab) -> None:
    tab = open_tab()
    wrong = call("shell", "no such file", input={"command": "ls /nowhere"}, is_error=True)
    tab.send(f"think {b64('First I look.')}; {call('shell', 'a.txt', input={'command': 'ls'})}; {wrong}; say 1 0")
    tab.wait_for_end()
    for _ in range(2):
        expect(tab.turn().locator("details")).to_have_count(3)
        thought, done, failed = tab.turn().locator("details").all()
        expect(thought.locator("summary")).to_contain_text("Thought for ")
        expect(thought.get_by_text("First I look.")).to_be_hidden()
        thought.locator("summary").click()
        expect(thought.get_by_text("First I look.")).to_be_visible()
        expect(done).to_have_class(re.compile("done"))
        expect(done.locator("summary")).to_contain_text("shell")
        expect(done.locator(".gist")).to_have_text("ls")
        expect(failed).to_have_class(re.compile("wrong"))
        failed.locator("summary").click()
        expect(failed.get_by_text("no such file")).to_be_visible()
        tab.page.reload()
        tab.wait_for_end()


def test_stop_cancels_the_run_and_keeps_what_was_said(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    tab.send("Tell me slowly for 60 s about the sea", agent="demo")
    expect(tab.turn()).to_contain_text("second 1 of 60")

    tab.button("Stop the answer").click()

    expect(tab.turn().locator(".outcome")).to_contain_text("Stopped")
    assert tab.runs()[0]["status"] == "cancelled"
    tab.page.reload()
    expect(tab.turn().locator(".outcome")).to_contain_text("Stopped")
    assert "second 1 of 60" in tab.answer()


def test_a_failed_run_says_why_and_can_be_tried_again(open_tab: OpenTab, stack: Stack) -> None:
    tab = open_tab()
    tab.send("say 2 0; exit 3")
    tab.wait_for_end()
    run = stack.settled(tab.runs()[0])

    for _ in range(2):
        expect(tab.turn().locator(".outcome")).to_contain_text("The agent's program ended unexpectedly.")
        expect(tab.turn().locator(".outcome")).to_contain_text(run["error"]["message"])
        assert tab.answer() == "0 1"
        tab.page.reload()
        tab.wait_for_end()

    tab.turn().locator(".remedies").get_by_role("button", name="Try again").click()
    expect(tab.turn().locator(".forks")).to_contain_text("2 / 2")
    tab.wait_for_end()
    first, again = tab.runs()
    assert (again["input"], again["retry_of"], first["retry_of"]) == (run["input"], run["id"], None)


def test_a_run_that_has_spent_its_limit_is_tried_again_with_a_higher_one(
    open_tab: OpenTab, stack: Stack, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = stack.run(f"cost 0.25; wait {gate}; say 1 0", max_cost_usd=0.2)
    assert stack.settled(run)["error"]["code"] == "budget_exceeded"
    tab = open_tab(thread=run["thread_id"])
    expect(tab.turn().locator(".outcome")).to_contain_text("It has used more than it may.")
    gate.touch()
    tab.button("Try again with up to $0.40").click()
    expect(tab.turn().locator(".forks")).to_contain_text("2 / 2")
    tab.wait_for_end()
    assert [(run["status"], run["max_cost_usd"]) for run in tab.runs()] == [("failed", 0.2), ("succeeded", 0.4)]


def test_a_message_can_be_changed_and_sent_again_on_a_branch(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send("say 1 0")
    tab.wait_for_end()
    tab.send("say 2 0")
    tab.wait_for_end(2)
    tab.turn(0).locator(".asked").hover()
    tab.turn(0).get_by_role("button", name="Change and send again").click()
    editor = tab.page.get_by_label("The message, to be changed")
    expect(editor).to_be_focused()
    editor.fill("history; say 3 0")
    editor.press("Enter")

    expect(tab.turn(0).locator(".forks")).to_contain_text("2 / 2")
    tab.wait_for_end(1)
    assert tab.answer() == "[]0 1 2"
    tab.send("history")
    tab.wait_for_end(2)
    # What was said on the other branch is not told.
    assert tab.answer(1) == '[["user", "history; say 3 0"], ["assistant", "[]0 1 2 "]]'
    tab.turn(0).get_by_role("button", name="The branch before").click()
    expect(tab.page.locator("article")).to_have_count(2)
    assert [tab.answer(0), tab.answer(1)] == ["0", "0 1"]


def test_a_branch_goes_on_from_an_earlier_answer(open_tab: OpenTab) -> None:
    tab = open_tab()
    for number in (1, 2):
        tab.send(f"say {number} 0")
        tab.wait_for_end(number)
    tab.turn(0).locator(".answer").hover()
    tab.turn(0).get_by_role("button", name="Branch from here").click()
    expect(tab.page.locator("article")).to_have_count(1)
    tab.send("history")
    tab.wait_for_end(2)
    assert tab.answer(1) == '[["user", "say 1 0"], ["assistant", "0 "]]'
    expect(tab.turn(1).locator(".forks")).to_contain_text("2 / 2")


def test_a_turn_says_what_it_took(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send("say 1 0.2; cost 0.25")
    tab.wait_for_end()
    expect(tab.turn().locator("footer small")).to_have_text(re.compile(r"^script · [\d.]+ s · 1 token · \$0\.25$"))


def test_nothing_moves_under_who_reads_further_up(open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab()
    gate = tmp_path / "gate"
    lines = "\n\n".join(f"Line {n}" for n in range(100))
    tab.send(f"print {b64(lines)}; wait {gate}; print {b64(lines)}; say 1 0")
    expect(tab.turn()).to_contain_text("Line 99")
    log = tab.page.locator(".log")
    # A font that comes late moves every line.
    tab.page.wait_for_function("() => document.fonts.status === 'loaded'")
    tab.page.wait_for_function(
        "log => log.scrollHeight - log.scrollTop - log.clientHeight < 5", arg=log.element_handle()
    )
    log.evaluate("log => log.scrollTop = 900")
    expect(tab.button("To the end")).to_be_visible()
    before = tab.page.get_by_text("Line 30", exact=True).bounding_box()
    gate.touch()
    tab.wait_for_end()
    assert tab.page.get_by_text("Line 30", exact=True).first.bounding_box() == before
    tab.button("To the end").click()
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 5


def test_who_goes_up_just_when_the_page_has_gone_down_stays_there(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.say("\n\n".join(f"Line {n}" for n in range(100)))
    log = tab.page.locator(".log")
    tab.page.wait_for_function("() => document.fonts.status === 'loaded'")
    # What was observed later is told later: the page has followed, and no event has told of that yet.
    log.evaluate("""log => new Promise(done => {
        const more = document.createElement("div");
        more.style.height = "2000px";
        let times = 0;
        new ResizeObserver(() => {
            if (++times === 1) setTimeout(() => log.firstElementChild.append(more));
            else done(log.scrollTop -= 900);
        }).observe(log.firstElementChild);
    })""")
    expect(tab.button("To the end")).to_be_visible()


def test_ten_thousand_events_are_shown_within_a_second(open_tab: OpenTab, stack: Stack) -> None:
    run = stack.run("chatter 5000")
    assert stack.settled(run, 60)["last_seq"] > 10_000
    tab = open_tab()
    took = tab.page.evaluate(
        """async id => {
            const { Turn } = await import("/state/turn.js");
            const took = [];
            for (let time = 0; time < 5; time++) {
                const begun = performance.now();
                const run = await (await fetch(`/api/v1/runs/${id}`)).json();
                const turn = new Turn(run, [], [], () => {});
                await turn.load();
                took.push([performance.now() - begun, turn.view.value.seq]);
            }
            return took;
        }""",
        run["id"],
    )
    tab.page.goto(f"{stack.url}/#{run['thread_id']}")
    expect(tab.turn()).to_contain_text("word4999")
    assert all(seq > 10_000 for _, seq in took)
    # Two cores that three test processes share: the others may wait for them, one does not.
    assert min(milliseconds for milliseconds, _ in took) < 1500, took


def test_a_message_whose_receipt_was_lost_is_not_run_twice_when_it_is_sent_again(open_tab: OpenTab) -> None:
    tab = open_tab()

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    tab.page.route("**/runs", lose_the_answer, times=1)
    tab.send("say 1 0")
    expect(tab.page.locator(".toast")).to_contain_text("Nothing is lost: try again.")
    expect(tab.input).to_have_value("say 1 0")

    tab.input.press("Enter")

    tab.wait_for_end()
    assert tab.answer() == "0"
    assert len(tab.runs()) == 1
    tab.complaints.clear()  # the browser says that a request failed


def test_a_thread_that_is_not_there_is_said_in_words(open_tab: OpenTab) -> None:
    missing = f"thr_{'0' * 26}"
    tab = open_tab(thread=missing)

    expect(tab.page.get_by_role("alert")).to_have_text(f"no thread {missing}")
    tab.complaints.clear()  # the browser says that a request was answered with 404
