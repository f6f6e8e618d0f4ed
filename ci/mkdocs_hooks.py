"""What mkdocs cannot say in `.mkdocs.yml`: the site's home page is the README, which lies outside of docs/.

On a forge the README links to `docs/NAME.md`, and pages link to `../README.md`. In the site the README is `index.md` in
the same folder as the pages, so both kinds of links are turned into those of the site.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HOME = "index.md"
README = "README.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README as the home page."""
    text = Path(config.docs_dir).with_name(README).read_text(encoding="utf-8")
    files.append(File.generated(config, HOME, content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page's links to the README into links to the home page."""
    to_top = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({to_top}../{README}", f"]({to_top}{HOME}")
