"""Texts in Markdown and LaTeX that stand for themselves: no markup, no HTML, no command."""

from v2l.errors import printable

MARKDOWN = str.maketrans({"|": r"\|", "[": r"\[", "`": r"\`", "<": "&lt;", "\\": r"\\"})
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def markdown_text(text: str) -> str:
    """`text` in one line of a Markdown table, list or paragraph: no cell, link, code or HTML begins in it."""
    return printable(text).translate(MARKDOWN)


def latex_text(text: str) -> str:
    """`text` in one line of LaTeX: no command (`\\input`, `\\write18`), comment or formula begins in it."""
    return printable(text).translate(LATEX)
