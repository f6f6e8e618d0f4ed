"""Links and anchors of the README and of docs/, as a forge sees them, and the site that mkdocs makes of them."""

from __future__ import annotations

import os
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


def test_a_link_that_leads_nowhere_would_be_found(tmp_path: Path) -> None:
    page = ROOT / "docs" / "concepts.md"
    assert len(rendered(page).links) > 5 and "three-kinds-of-metrics" in rendered(page).anchors
    bad = tmp_path / "bad.md"
    bad.write_text("# Title\n\n[a](gone.md) [b](#gone) [c](#title) [d](https://example.org/)\n")
    assert broken(bad)[:2] == ["gone.md", "#gone"]


def build(site: Path, config: Path = SITE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = build(tmp_path / "site")
    assert done.returncode == 0, done.stderr
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'href="concepts.html"' in home and "docs/" not in home.partition("<article")[2].partition('href="')[2][:40]
    pages = {path.relative_to(tmp_path / "site").with_suffix(".md") for path in (tmp_path / "site").rglob("*.html")}
    assert pages >= {page.relative_to(DOCS) for page in PAGES[1:]}
    loaded = [link for link in _assets(tmp_path / "site" / "index.html") if urlsplit(link).netloc]
    assert loaded == [], "a page of the site loads something from elsewhere"


def _assets(page: Path) -> list[str]:
    from tests.docs.pages import Rendered

    class Assets(Rendered):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            if tag in ("script", "link", "img"):
                super().handle_starttag(tag, attributes)

    found = Assets()
    found.feed(page.read_text(encoding="utf-8"))
    return found.links
