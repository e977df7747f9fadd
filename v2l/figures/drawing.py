"""Drawing: grids of images laid out in inches, so that equal input gives equal files."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

Column = tuple[str, list[np.ndarray]]  # title, one uint8 RGB image per row
GAP, GROUP_GAP, MARGIN, LINE = 0.04, 0.16, 0.1, 0.15  # inches
TITLE_LETTERS = 12  # per line of a column title of CELL inches
CELL = 0.9


def image_grid(columns: list[Column], groups: list[tuple[str, int]], cell: float = CELL) -> Figure:
    """Images side by side, a row of them per item, `cell` inches each.

    `groups` are headings over the next so many columns, set apart by a gap; a heading may be empty.
    """
    titles = [_wrapped(title, round(TITLE_LETTERS * cell / CELL)) for title, _ in columns]
    header = LINE * (max(title.count("\n") for title in titles) + 1) + GAP
    heading = 1.5 * LINE if any(name for name, _ in groups) else 0
    rows = len(columns[0][1])
    width = 2 * MARGIN + len(columns) * (cell + GAP) - GAP + (len(groups) - 1) * GROUP_GAP
    height = 2 * MARGIN + heading + header + rows * (cell + GAP) - GAP
    figure = Figure(figsize=(width, height))
    top, left, column = height - MARGIN - heading - header, MARGIN, 0
    for name, count in groups:
        span = count * (cell + GAP) - GAP
        _text(figure, left + span / 2, height - MARGIN - LINE, name, weight="bold", size=11)
        for title, (_, images) in zip(titles[column : column + count], columns[column : column + count], strict=True):
            _text(figure, left + cell / 2, top + GAP, title, size=8)
            for row, image in enumerate(images):
                _image(figure, left, top - (row + 1) * cell - row * GAP, cell, image)
            left += cell + GAP
        left += GROUP_GAP
        column += count
    return figure


def captioned_images(images: list[np.ndarray], captions: list[list[str]], title: str, per_row: int = 6) -> Figure:
    """Images (uint8 RGB) in rows of `per_row`, the lines of each one's caption beneath it, centred."""
    cell, gap = 1.5, 0.15
    across, rows = min(per_row, len(images)), -(-len(images) // per_row)
    block = cell + LINE * 1.3 * max(len(caption) for caption in captions) + 2 * gap
    width, height = 2 * MARGIN + across * (cell + gap) - gap, 2 * MARGIN + 2 * LINE + rows * block
    figure = Figure(figsize=(width, height))
    _text(figure, width / 2, height - MARGIN - LINE, title, weight="bold", size=10)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, per_row)
        left, bottom = MARGIN + column * (cell + gap), height - MARGIN - 2 * LINE - row * block - cell
        _image(figure, left, bottom, cell, image)
        for line, text in enumerate(caption):
            _text(figure, left + cell / 2, bottom - LINE * 1.3 * (line + 1), printable(text), size=9)
    return figure


def printable(text: str, letters: int = 22) -> str:
    """`text` on one line of at most `letters`, characters that the font lacks as their code point (U+4E2D)."""
    known = get_font(findfont(FontProperties())).get_charmap()
    spaced = " ".join(text.split())
    shown = "".join(letter if ord(letter) in known else f"U+{ord(letter):04X}" for letter in spaced)
    return shown if len(shown) <= letters else shown[: letters - 1] + "…"


def _wrapped(title: str, letters: int) -> str:
    return "\n".join(textwrap.wrap(title, letters))


def _text(figure: Figure, x: float, y: float, text: str, **style) -> None:
    """Text centred at x, its last line's bottom at y; inches from the lower left."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, ha="center", va="bottom", parse_math=False, **style)


def _image(figure: Figure, left: float, bottom: float, side: float, image: np.ndarray) -> None:
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.4, color="0.6")
