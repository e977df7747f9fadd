"""Text on a page: what the font can show, and lines no wider than the place they stand in."""

import re

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

CUT = "…"


def printable(text: str) -> str:
    """`text` on one line, characters that the font lacks as their code point (U+4E2D); text is never read as TeX."""
    known = get_font(findfont(FontProperties())).get_charmap()
    spaced = " ".join(text.split())
    return "".join(letter if ord(letter) in known else f"U+{ord(letter):04X}" for letter in spaced)


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Width of one line of printable text in inches, at `size` points."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size, weight=weight), False)
    return width / 72


def fitted_lines(text: str, width: float, size: float, most: int, widest: float = 0) -> list[str]:
    """`text` as up to `most` lines of at most `width` inches; what is left over ends in '…'.

    Lines end at spaces and behind hyphens; a word alone may be as wide as `widest`, and one still longer is broken.
    """
    lines = [""]
    for piece in re.split(r"(?<=[ -])(?=[^ -])", printable(text)):
        if width_of((lines[-1] + piece).rstrip(), size) <= width:
            lines[-1] += piece
        else:
            lines += _broken(piece, max(width, widest), size)
    lines = [line.rstrip() for line in lines if line] or [""]
    if len(lines) > most:
        kept = lines[most - 1]
        while kept and width_of(kept + CUT, size) > width:
            kept = kept[:-1]
        lines = [*lines[: most - 1], kept + CUT]
    return lines


def _broken(word: str, width: float, size: float) -> list[str]:
    """The word in pieces that fit, each of at least one letter."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and width_of((pieces[-1] + letter).rstrip(), size) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces
