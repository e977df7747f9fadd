"""Names and notes as text of a Markdown table or of LaTeX: what would be markup there stays visible."""

import html
import re

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
MARKDOWN_SPECIAL = re.compile(r"[\\`*_|~$]|(?<=\])(?=\()")
HTML_SPECIAL = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")  # where a tag or an entity could begin


def latex_text(text: str) -> str:
    """One line of LaTeX that shows `text`, which may hold any character that the document's fonts have."""
    return " ".join(text.split()).translate(LATEX_SPECIAL)


def markdown_text(text: str) -> str:
    """One line of a GitHub table's cell that shows `text`."""
    escaped = HTML_SPECIAL.sub(lambda found: html.escape(found.group()), " ".join(text.split()))
    return MARKDOWN_SPECIAL.sub(lambda found: f"\\{found.group()}", escaped)
