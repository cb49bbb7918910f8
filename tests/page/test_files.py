"""The files of a thread: shown as what they are, compared, and saved to the byte."""

import io
import struct
import zipfile
import zlib

from playwright.sync_api import Locator, expect
from tab import OpenTab, Tab, b64

CSV = "planet,moons,day\nSaturn,146,10.7\nEarth,1,24\nMars,2,24.6\n" + '"a ""quoted"", name",0,1\n'
PDF = b"""%PDF-1.1
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj
trailer<</Root 1 0 R>>
"""


def png() -> bytes:
    """A red dot."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    )


def keep(tab: Tab, **files: str | bytes) -> None:
    """Have the agent leave these files; `_` in a name is a dot."""
    tab.send("; ".join(f"keep {name.replace('_', '.')} {b64(content)}" for name, content in files.items()))
    expect(tab.page.locator(".artifact-card")).to_have_count(len(files))
    tab.wait_for_end(tab.page.locator("article").count())


def show(tab: Tab, name: str) -> Locator:
    """The preview of a file, opened by its card."""
    tab.page.locator(".artifact-open", has_text=name).last.click()
    expect(tab.page.locator(".files h2")).to_have_text(name)
    return tab.page.locator(".file-body")


def test_each_kind_of_file_is_shown_as_what_it_is(open_tab: OpenTab) -> None:
    tab = open_tab()
    keep(
        tab,
        notes_md="# Notes\n\nOf **wicks**.",
        planets_csv=CSV,
        data_json='{"b":[1,2],"a":null}',
        code_py="def light():\n    return True\n",
        dot_png=png(),
        plain_txt="just words",
        page_html="<h1>Hello</h1><script>document.body.append('ran')</script>",
        drawing_svg='<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0h9v9z"/></svg>',
        paper_pdf=PDF,
        blob_bin=b"\0\1\2",
    )
    expect(show(tab, "notes.md").locator("h1")).to_have_text("Notes")
    tab.page.get_by_role("tab", name="Source").click()
    expect(tab.page.locator(".source")).to_contain_text("Of **wicks**.")

    table = show(tab, "planets.csv")
    expect(table.locator("tbody tr")).to_have_count(4)
    table.get_by_role("button", name="moons").click()
    expect(table.locator("tbody td:first-child")).to_have_text(['a "quoted", name', "Earth", "Mars", "Saturn"])
    table.get_by_role("button", name="moons").click()
    expect(table.locator("tbody td:first-child").first).to_have_text("Saturn")
    expect(table.locator("th").nth(1)).to_have_attribute("aria-sort", "descending")

    expect(show(tab, "data.json").locator(".hljs-attr").first).to_have_text('"b"')
    expect(show(tab, "code.py").locator(".hljs-keyword").first).to_have_text("def")
    for picture in ("dot.png", "drawing.svg"):
        image = show(tab, picture).locator("img")
        expect(image).to_be_visible()
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(show(tab, "plain.txt")).to_have_text("just words")
    frame = show(tab, "page.html").frame_locator("iframe")
    expect(frame.locator("h1")).to_have_text("Hello")
    expect(frame.locator("body")).to_contain_text("ran")
    expect(show(tab, "paper.pdf").locator("iframe")).to_be_visible()
    expect(show(tab, "blob.bin")).to_contain_text("cannot be shown here")


def test_versions_are_listed_compared_and_saved_to_the_byte(open_tab: OpenTab) -> None:
    tab = open_tab()
    first = "\n".join(f"line {n}" for n in range(30)) + "\n"
    keep(tab, report_txt=first)
    tab.send(
        f"keep report.txt {b64(first.replace('line 9' + chr(10), 'line nine' + chr(10)))}; keep other.txt {b64('x')}"
    )
    expect(tab.page.locator(".artifact-card")).to_have_count(3)
    tab.wait_for_end(2)

    show(tab, "report.txt")
    tab.page.get_by_role("tab", name="Changes").click()
    expect(tab.page.locator(".changes .added")).to_have_text("+ line nine\n")
    expect(tab.page.locator(".changes .removed")).to_have_text("− line 9\n")
    expect(tab.page.locator(".changes .skipped")).to_have_count(2)
    tab.page.select_option("#version", "1")
    expect(tab.page.locator(".file-body")).to_contain_text("line 9\n")

    with tab.page.expect_download() as downloading:
        tab.page.locator(".files .bar a.icon-button").click()
    assert downloading.value.suggested_filename == "report.txt"
    assert downloading.value.path().read_bytes() == first.encode()

    tab.button("All files").click()
    expect(tab.page.locator(".file-list .artifact-name")).to_have_text(["report.txt", "other.txt"])
    expect(tab.page.locator(".file-list small").first).to_contain_text("2 versions")
    with tab.page.expect_download() as downloading:
        tab.page.get_by_role("link", name="All as zip").click()
    with zipfile.ZipFile(io.BytesIO(downloading.value.path().read_bytes())) as archive:
        assert sorted(archive.namelist()) == ["other.txt", "report.txt"]
        assert "line nine" in archive.read("report.txt").decode()
