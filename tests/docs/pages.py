"""The README and the pages of docs/, rendered as the site renders them, with what their tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from markdown import Markdown
from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = ROOT / ".mkdocs.yml"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))


@dataclass
class Rendered(HTMLParser):
    """What is in a page."""

    links: list[str] = field(default_factory=list)
    """Targets of links and images, as written."""
    anchors: set[str] = field(default_factory=set)
    blocks: list[str] = field(default_factory=list)
    """Text of each block of code."""
    inline: list[str] = field(default_factory=list)
    """Text of each piece of code within a sentence."""
    paragraphs: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        self.anchors |= {found["id"] or ""} if "id" in found else set()
        if tag == "pre":
            self.blocks.append("")
        elif tag == "code" and "pre" not in self._open:
            self.inline.append("")
        elif tag == "p":
            self.paragraphs.append("")
        if tag in ("pre", "code", "p"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("pre", "code", "p"):
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.blocks[-1] += data
        elif "code" in self._open:
            self.inline[-1] += data
        if "p" in self._open:
            self.paragraphs[-1] += data


@cache
def _renderer() -> Markdown:
    config = load_config(str(SITE))
    return Markdown(extensions=config.markdown_extensions, extension_configs=config.mdx_configs)


@cache
def rendered(page: Path) -> Rendered:
    """A page, through the Markdown and the extensions of the site."""
    found = Rendered()
    found.feed(_renderer().reset().convert(page.read_text(encoding="utf-8")))
    return found


def block_lines(page: Path) -> Iterator[str]:
    """Each line of the page's blocks of code, continued lines joined."""
    for text in rendered(page).blocks:
        yield from map(str.strip, text.replace("\\\n", " ").splitlines())
