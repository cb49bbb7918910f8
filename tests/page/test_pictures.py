"""The pictures of docs/page.md: what a person sees, wide and on a phone, light and dark."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from stack import Json, Stack
from tab import OpenTab, b64, call, wait_for_quiet

ROOT = Path(__file__).parents[2]
ASKED = "Plan a tide table for three harbours, and give me the numbers as CSV."
THOUGHT = "Two constituents are enough for a harbour wall. I look for charts first, then I write the table."
ANSWER = r"""Here is a short plan. It rests on **two constituents**, which is enough for a harbour wall:

1. Take the *principal lunar* term $M_2$, with a period of 12.42 h.
2. Add the solar term; see [the almanac](https://example.org/tides).

$$h(t) = \sum_{i} A_i \cos(\omega_i t + \varphi_i)$$

```python
from math import cos, pi

def height(hours: float) -> float:
    return 2.4 * cos(2 * pi * hours / 12.42)  # M2 alone
```

| Harbour | Range (m) | Best hour |
|:--|--:|:-:|
| Fundy | 16.3 | 06:10 |
| Saint-Malo | 12.0 | 07:45 |
| Malta | 0.3 | any |
"""
CSV = "hour,Fundy,Saint-Malo,Malta\n" + "".join(
    f"{hour:02}:00,{abs(hour % 12 - 6) * 2.7:.1f},{abs(hour % 12 - 5) * 2.1:.1f},0.{hour % 4}\n" for hour in range(24)
)


@pytest.fixture(scope="module")
def told(stacks: dict[str, Stack]) -> Json:
    """A conversation to be looked at."""
    stack = stacks["sqlite"]
    for title in ("Letters to the lighthouse keeper", "Why candles burn blue at the base", "Budget for the boat"):
        run = stack.run("say 1 0")
        stack.settled(run)
        stack.http.patch(f"/threads/{run['thread_id']}", json={"title": title})
        stack.http.post(f"/threads/{run['thread_id']}/read")
    shell = call("shell", "harbours.txt\nmoon.csv", input={"command": "ls ~/charts"})
    steps = f"think {b64(THOUGHT)}; {shell}; print {b64(ANSWER)}; keep tide-table.csv {b64(CSV)}; cost 0.0421"
    # What the page shows of a message in place of what the scripted agent is to do.
    run = stack.settled(stack.run(steps, metadata={"text": ASKED}))
    stack.http.patch(f"/threads/{run['thread_id']}", json={"title": "A tide table for three harbours"})
    stack.http.post(f"/threads/{run['thread_id']}/read")
    return run


def test_pictures_of_a_conversation_and_a_file(open_tab: OpenTab, told: Json) -> None:
    tab = open_tab(thread=told["thread_id"])
    expect(tab.turn().locator("details")).to_have_count(2)
    expect(tab.turn().locator(".katex")).to_have_count(2)
    tab.turn().locator(".bubble").evaluate("(bubble, text) => { bubble.textContent = text }", ASKED)
    tab.page.locator(".log").evaluate("log => log.scrollTop = 0")
    tab.shoot("conversation-light")
    tab.page.locator(".artifact-open").click()
    expect(tab.page.locator(".sheet-table tbody tr")).to_have_count(24)
    tab.page.locator("#input").blur()
    tab.shoot("files-light")


def test_a_picture_of_the_runs_that_are_under_way(open_tab: OpenTab, stack: Stack, told: Json, tmp_path: Path) -> None:
    wait_for_quiet(stack)
    gate = tmp_path / "gate"
    runs = [stack.run(f"say 30 0.05; wait {gate}", kind="background") for _ in range(2)]
    for run, title in zip(runs, ("Proofread the logbook", "Sort the photographs of 2026"), strict=True):
        stack.http.patch(f"/threads/{run['thread_id']}", json={"title": title})
    runs.append(stack.run("say 1 0", thread=runs[0]["thread_id"]))
    tab = open_tab(thread=told["thread_id"], dark=True)
    expect(tab.turn().locator(".katex")).to_have_count(2)
    tab.page.keyboard.press("Control+j")
    expect(tab.page.locator(".tray-run.running")).to_have_count(2)
    expect(tab.page.locator(".tray-run.running small").first).to_contain_text(re.compile("last sign of life"))
    tab.shoot("runs-dark")
    gate.touch()
    for run in runs:
        stack.settled(run)


def test_pictures_on_a_phone(open_tab: OpenTab, told: Json) -> None:
    tab = open_tab(width=390, height=780, thread=told["thread_id"])
    expect(tab.turn().locator(".katex")).to_have_count(2)
    expect(tab.page.locator("#title")).to_contain_text("tide table")
    tab.shoot("phone-light")
    new = open_tab(width=390, height=780, dark=True)
    expect(new.page.locator(".welcome")).to_be_visible()
    new.shoot("phone-new-dark")


def test_the_pictures_of_the_docs_are_there_and_small() -> None:
    page = (ROOT / "docs" / "page.md").read_text()
    named = re.findall(r"\((images/[\w-]+\.png)\)", page)
    assert len(named) == 5
    for name in named:
        assert (ROOT / "docs" / name).stat().st_size < 200_000, json.dumps(name)
