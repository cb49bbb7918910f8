"""Markdown that arrives in pieces, cut where its blocks end: what is closed will not change any more."""

from markdown_it import MarkdownIt

_PARSER = MarkdownIt().enable("strikethrough").enable("table")


class Blocks:
    """One text as it grows, with `\\n` between its lines. Its closed blocks and `rest` are all of it, in order."""

    def __init__(self) -> None:
        self.rest = ""
        """The last block, which may still grow or become something else."""

    def feed(self, text: str) -> list[str]:
        """The blocks that this piece of text closes."""
        self.rest += text
        if "\n" not in text:
            return []
        # A line that is not whole says nothing yet: `#` may become a heading, or a tag in the paragraph before it.
        whole = self.rest[: self.rest.rindex("\n") + 1]
        lines = [f"{line}\n" for line in whole.split("\n")[:-1]]
        starts = [
            token.map[0] for token in _PARSER.parse(whole) if token.level == 0 and token.nesting >= 0 and token.map
        ]
        closed = ["".join(lines[a:b]) for a, b in zip([0, *starts[1:-1]], starts[1:], strict=False)]
        self.rest = self.rest[sum(map(len, closed)) :]
        return closed

    def close(self) -> list[str]:
        """The blocks that are left, now that the text is whole."""
        left, self.rest = self.rest, ""
        return [left] if left else []
