"""A page as its reader has it: headings, texts and links."""

from __future__ import annotations

from html.parser import HTMLParser

import httpx

VOID = {"meta", "rect", "br", "img", "link", "input"}


class Page(HTMLParser):
    """The elements of a page, each of which must be closed."""

    def __init__(self, answer: httpx.Response, status: int = 200) -> None:
        super().__init__()
        assert answer.status_code == status, answer.text
        self.elements: list[tuple[str, dict[str, str]]] = []
        # The addresses of links with their texts.
        self.links: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self._hrefs: list[str] = []
        self.feed(answer.text)
        assert self._open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "a":
            self.links.append((values["href"], ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "a" in self._open:
            href, text = self.links[-1]
            self.links[-1] = href, " ".join(f"{text} {data}".split())

    def rows(self) -> int:
        """How many rows the first list has."""
        tables = [tag for tag, values in self.elements if tag == "tr"]
        return len(tables) - 1
