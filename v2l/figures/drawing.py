"""Grids of images with words above and beneath, as wide as a column of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from v2l.figures.page import COLUMN, HEADING, LINE, MARGIN, TEXT, Page, outline
from v2l.figures.text_lines import fitted_lines

GAP = 0.04  # inches between images
WIDEST = 1.1  # inches of an image's side
MOST_COLUMNS = 7  # side by side: the longest words of the titles still fit
TITLE_LINES = 4


@dataclass(frozen=True)
class GridColumn:
    """Images of one kind: a uint8 RGB image a row, its lines of text beneath, and the map of what is enclosed in it."""

    title: str
    images: Sequence[np.ndarray]
    notes: Sequence[Sequence[str]] = ()
    regions: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class GridBlock:
    """Columns under one heading, which may be empty. Where they do not fit side by side, they are in several bands, of
    which each begins with the first column."""

    heading: str
    columns: Sequence[GridColumn]

    def bands(self) -> list["GridBlock"]:
        """The block in parts of at most MOST_COLUMNS columns, as equally filled as can be."""
        first, *others = self.columns
        parts = np.array_split(np.arange(len(others)), max(1, -(-len(others) // (MOST_COLUMNS - 1))))
        headings = [self.heading, *[""] * (len(parts) - 1)]
        return [
            GridBlock(heading, [first, *(others[number] for number in part)])
            for heading, part in zip(headings, parts, strict=True)
        ]

    @property
    def side(self) -> float:
        """Inches of an image's side, all columns side by side."""
        count = len(self.columns)
        return min(WIDEST, (COLUMN - 2 * MARGIN - (count - 1) * GAP) / count)

    @property
    def row(self) -> float:
        """Inches from one row of images to the next."""
        notes = max((len(note) for column in self.columns for note in column.notes), default=0)
        return self.side + GAP + (notes * LINE + 2 * GAP if notes else 0)

    @property
    def titles(self) -> list[list[str]]:
        """The lines of each column's title."""
        pitch = self.side + GAP
        return [fitted_lines(column.title, self.side, TEXT, TITLE_LINES, pitch) for column in self.columns]


def image_grid(blocks: Sequence[GridBlock]) -> Figure:
    """Images side by side, a row of them per item, one block beneath the other; titles that stand above already are
    left out."""
    bands = [band for block in blocks for band in block.bands()]
    shown = [[], *(band.titles for band in bands)]
    titles = [now if now != before else [] for before, now in pairwise(shown)]
    heights = [_height(band, above) for band, above in zip(bands, titles, strict=True)]
    page = Page(sum(heights) + 2 * MARGIN)
    top = MARGIN
    for band, above, height in zip(bands, titles, heights, strict=True):
        _draw(page, band, above, top)
        top += height
    return page.figure


def _height(band: GridBlock, titles: list[list[str]]) -> float:
    return _heading(band) + _titles(titles) + len(band.columns[0].images) * band.row + GAP


def _heading(band: GridBlock) -> float:
    return LINE + 2 * GAP if band.heading else 0


def _titles(titles: list[list[str]]) -> float:
    return max(map(len, titles)) * LINE + GAP if titles else 0


def _draw(page: Page, band: GridBlock, titles: list[list[str]], top: float) -> None:
    width = len(band.columns) * (band.side + GAP) - GAP
    start = (COLUMN - width) / 2
    page.lines(start, top, [band.heading], fontsize=HEADING, weight="bold")
    top += _heading(band) + _titles(titles)
    for number, column in enumerate(band.columns):
        left = start + number * (band.side + GAP)
        if titles:
            page.lines(left + band.side / 2, top - GAP - len(titles[number]) * LINE, titles[number], "center")
        for row, image in enumerate(column.images):
            axes = page.image(left, top + row * band.row, band.side, image)
            if column.regions:
                outline(axes, column.regions[row])
            if column.notes:
                page.lines(left + band.side / 2, top + row * band.row + band.side + GAP, column.notes[row], "center")
