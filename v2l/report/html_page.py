"""The page itself: templates filled with what the report shows; everything that it needs is in it."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from v2l.report.present_files import TEMPLATES

# Control characters, which no HTML page may hold.
UNPRINTABLE = dict.fromkeys(set(range(32)) - set(b"\t\n") | set(range(127, 160)), "\N{REPLACEMENT CHARACTER}")


def render(content: dict[str, Any]) -> str:
    """The HTML text of the page. Every text of `content` is shown as it is: markup in it stays text.

    Control characters are replaced, and what UTF-8 cannot write (lone surrogates) is written out.

    The page allows no script but its own and no connection at all (Content-Security-Policy).
    """
    style, script = ((TEMPLATES / name).read_text() for name in ("style.css", "script.js"))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'"
    )
    page = environment.get_template("page.html")
    text = page.render(content, style=Markup(style), script=Markup(script), policy=policy)
    return text.translate(UNPRINTABLE).encode(errors="backslashreplace").decode()


def data_uri(content: bytes, kind: str) -> str:
    """An image inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _source_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
