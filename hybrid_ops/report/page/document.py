"""The file of a page: the template filled in, with styles, scripts, plotly.js and data, so that it needs no network."""

from __future__ import annotations

import base64
import functools
import json
import zlib
from pathlib import Path
from typing import Any

from hybrid_ops import __version__

FOLDER = Path(__file__).parent
SCRIPTS = ("basics", "drawing", "launches", "history", "models", "conditions", "table", "start")
"""In the order in which they are read."""


def render(data: dict[str, Any], **shown: Any) -> str:
    """The page as HTML.

    Parameters
    ----------
    data: what the scripts read, by the name of its block (`cell_data`, `history_data`, `run_data`)
    shown: what the template shows, which is escaped
    """
    # Imported here: with `--perf` alone, and every other command would wait for it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = "\n".join((FOLDER / "scripts" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return environment.get_template("page.html").render(
        **shown,
        version=__version__,
        styles=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - files of this package
        scripts=Markup(f'"use strict";\n(() => {{\n{scripts}}})();'),  # noqa: S704
        plotly=Markup(packed_plotly()),  # noqa: S704 - base64
        **{name: Markup(embedded(block)) for name, block in data.items()},  # noqa: S704 - `embedded` has no `<`
    )


def embedded(document: Any) -> str:
    """A document as JSON that may stand in a `<script>`: no `<`, so that nothing in it can end the element."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@functools.cache
def packed_plotly() -> str:
    """plotly.js, compressed (zlib) and in base64: a third of its size in every page."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(zlib.compress(get_plotlyjs().encode())).decode()
