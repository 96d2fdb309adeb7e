"""Markup read strictly, for tests of what people are shown as HTML."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["Page"]

_EMPTY = {"meta", "br"}
_REACHES_OUT = {"script", "link", "img", "iframe", "object", "base", "a", "form", "video", "audio", "embed"}
_ADDRESSES = {"src", "href", "srcset", "xlink:href", "action"}


class Page(HTMLParser):
    """Reads a page, strictly: tags that are opened are closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if text := data.strip():  # what stands between tags is no text
            self.texts.append(text)

    @property
    def text(self) -> str:
        """All that is written."""
        return " ".join(self.texts)

    @property
    def style(self) -> str:
        """The one style sheet."""
        (style,) = (text for text in self.texts if ".raycolab" in text)
        return style

    def assert_self_contained(self) -> None:
        """No script, no link, no address of anything, nor an attribute that would run."""
        assert {tag for tag, _ in self.tags} & _REACHES_OUT == set()
        for _, attributes in self.tags:
            assert not _ADDRESSES & set(attributes)
            assert [name for name in attributes if name.startswith("on")] == []
        assert [word for word in ("url(", "@import", "http:", "https:") if word in self.style] == []
