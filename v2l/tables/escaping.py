"""Names and notes as text of a Markdown table or of LaTeX: what would be markup there stays visible."""

import html
import re

from v2l.errors import printable

LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # OT1, LaTeX's default encoding, has other characters in the places of these three
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a row it would begin an argument, and * would change its meaning
    "]": "{]}",
    "*": "{*}",
    "\N{EN DASH}": "--",
}
LATEX_SPECIAL = str.maketrans(LATEX)
MARKDOWN_SPECIAL = re.compile(r"[\\`*_|~$\[]")
HTML_SPECIAL = re.compile(r"<|&(?=#?\w+;)")  # where a tag or an entity could begin


def latex_text(text: str) -> str:
    """`text` in one line of LaTeX: no command, comment or formula begins in it; its fonts must have its characters."""
    return _line(text).translate(LATEX_SPECIAL)


def markdown_text(text: str) -> str:
    """`text` in one line of a Markdown table, list or paragraph: no cell, link, code, emphasis or HTML begins in it."""
    escaped = HTML_SPECIAL.sub(lambda found: html.escape(found.group()), _line(text))
    return MARKDOWN_SPECIAL.sub(lambda found: f"\\{found.group()}", escaped)


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
