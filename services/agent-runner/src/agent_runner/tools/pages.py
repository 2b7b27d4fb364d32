"""HTML as text that reads well: headings, paragraphs, lists, tables by lines, code as it is, links with addresses."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

_SILENT = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "head"})
_BLOCKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    }
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_SPACES = re.compile(r"\s+")
_BLANKS = re.compile(r"[ \t\r]+\n")
_LINES = re.compile(r"\n{3,}")


def readable(html: str, url: str) -> str:
    """The text of a page at `url`; whatever HTML it is, something comes out."""
    page = _Page(url)
    page.feed(html)
    page.close()
    return page.text()


class _Page(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self._url = url
        self._parts: list[str] = []
        self._silent: list[str] = []
        self._links: list[tuple[str, int]] = []
        self._code = 0
        self._title: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        if tag == "title":
            self._in_title = True
        elif tag in _SILENT:
            self._silent.append(tag)
        elif tag == "body":
            # A head need not be closed.
            self._silent.clear()
        if self._silent:
            return
        given = dict(attrs)
        if tag in _BLOCKS:
            self._parts.append("\n" if tag in ("li", "tr", "dd", "dt") else "\n\n")
        self._parts.append(_HEADINGS.get(tag, "- " if tag == "li" else "\n" if tag == "br" else ""))
        if tag in ("td", "th"):
            self._parts.append(" | ")
        if tag == "pre":
            self._code += 1
        if tag == "a" and (target := given.get("href")):
            self._links.append((target, len(self._parts)))
        if tag == "img" and (shown := given.get("alt")):
            self._parts.append(f"[{shown}]")

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if tag == "title":
            self._in_title = False
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
            return
        if self._silent:
            return
        if tag == "a" and self._links:
            self._end_link(*self._links.pop())
        if tag == "pre":
            self._code = max(0, self._code - 1)
        if tag in _BLOCKS:
            self._parts.append("\n" if tag in ("li", "tr") else "\n\n")

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._in_title:
            self._title.append(data)
        elif not self._silent:
            self._parts.append(data if self._code else _SPACES.sub(" ", data))

    def text(self) -> str:
        """The whole text."""
        body = _LINES.sub("\n\n", _BLANKS.sub("\n", "".join(self._parts))).strip()
        title = _SPACES.sub(" ", "".join(self._title)).strip()
        return f"{title}\n\n{body}" if title and not body.startswith(f"# {title}") else body

    def _end_link(self, target: str, begin: int) -> None:
        shown = _SPACES.sub(" ", "".join(self._parts[begin:])).strip()
        try:
            whole = urljoin(self._url, target.strip())
        except ValueError:
            return
        if shown and whole.startswith(("http://", "https://")) and "#" not in target[:1]:
            self._parts[begin:] = [f"[{shown}]({whole})"]
