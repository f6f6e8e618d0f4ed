"""Links and anchors of the README and of docs/, as a forge sees them, and the site that mkdocs makes of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, SITE, rendered


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere in this checkout. Those to other hosts are not followed."""
    found = []
    for link in rendered(page).links:
        parts = urlsplit(link)
        if parts.scheme in ("http", "https"):
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        is_there = target.exists() and target.is_relative_to(ROOT)
        if is_there and parts.fragment and target.suffix == ".md":
            is_there = parts.fragment in rendered(target).anchors
        if not is_there:
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors_resolve(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lists_are_lists_in_the_site_too(page: Path) -> None:
    """A forge takes a list that follows a line of text at once; the site needs an empty line between them."""
    assert [text for text in rendered(page).paragraphs if re.search(r"^ *(- |\d+\. |\|)", text, re.MULTILINE)] == []


def test_a_link_that_leads_nowhere_would_be_found(tmp_path: Path) -> None:
    page = ROOT / "docs" / "concepts.md"
    assert len(rendered(page).links) > 5 and "three-kinds-of-metrics" in rendered(page).anchors
    bad = tmp_path / "bad.md"
    bad.write_text("# Title\n\n[a](gone.md) [b](#gone) [c](https://example.org/)\n")
    assert {"gone.md", "#gone"} <= set(broken(bad)) and "https://example.org/" not in broken(bad)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(SITE), "-d", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert built >= {page.relative_to(DOCS) for page in PAGES[1:]}
    home = (site / "index.html").read_text(encoding="utf-8")
    assert "Why you would want it" in home and 'href="how-to/accept-a-change.html"' in home
    loaded = re.findall(r"<(?:script|link|img)\b[^>]*?\b(?:src|href)=\"?([^\"\s>]+)", home)
    assert len(loaded) > 3 and [link for link in loaded if urlsplit(link).netloc] == []
