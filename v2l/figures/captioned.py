"""Images with lines of words beneath, as wide as a column of the page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from v2l.figures.page import COLUMN, HEADING, LINE, MARGIN, TEXT, Page
from v2l.figures.text_lines import fitted_lines, width_of

ACROSS = 3
GAP = 0.1  # inches between images
SIDE = (COLUMN - 2 * MARGIN - (ACROSS - 1) * GAP) / ACROSS
INDENT = 0.12  # inches, of a text behind its mark
BLANK = "(blank)"  # in place of a text that nobody would see


@dataclass(frozen=True)
class Phrase:
    """A text of up to `most` lines, with a mark before it where it is of a certain kind."""

    text: str
    mark: str = ""
    colour: str = "black"
    most: int = 2

    @property
    def lines(self) -> list[str]:
        """The text in lines that fit beneath an image."""
        return fitted_lines(
            self.text if self.text.strip() else BLANK, SIDE - (INDENT if self.mark else 0), TEXT, self.most
        )


@dataclass(frozen=True)
class Captioned:
    """A uint8 RGB image and what stands beneath."""

    image: np.ndarray
    phrases: Sequence[Phrase]

    @property
    def lines(self) -> int:
        """Lines beneath the image."""
        return sum(len(phrase.lines) for phrase in self.phrases)


def captioned_images(blocks: Sequence[tuple[str, Sequence[Captioned]]], legend: Sequence[Phrase] = ()) -> Figure:
    """Images in rows of three, a block of rows under each heading; the legend stands above all."""
    rows = [
        (heading if start == 0 else "", images[start : start + ACROSS])
        for heading, images in blocks
        for start in range(0, len(images), ACROSS)
    ]
    legend_height = LINE + GAP if legend else 0
    page = Page(legend_height + sum(_height(*row) for row in rows) + 2 * MARGIN - GAP)
    left = MARGIN
    for phrase in legend:
        _draw_phrase(page, phrase, left, MARGIN)
        left += 2 * INDENT + width_of(phrase.text, TEXT) + GAP
    top = MARGIN + legend_height
    for heading, images in rows:
        _draw_row(page, heading, images, top)
        top += _height(heading, images)
    return page.figure


def _height(heading: str, images: Sequence[Captioned]) -> float:
    return _heading(heading) + SIDE + GAP / 2 + max(image.lines for image in images) * LINE + GAP


def _heading(heading: str) -> float:
    return LINE + GAP / 2 if heading else 0


def _draw_row(page: Page, heading: str, images: Sequence[Captioned], top: float) -> None:
    page.lines(MARGIN, top, [heading], fontsize=HEADING, weight="bold")
    top += _heading(heading)
    for number, shown in enumerate(images):
        left, below = MARGIN + number * (SIDE + GAP), top + SIDE + GAP / 2
        page.image(left, top, SIDE, shown.image)
        for phrase in shown.phrases:
            _draw_phrase(page, phrase, left, below)
            below += len(phrase.lines) * LINE


def _draw_phrase(page: Page, phrase: Phrase, left: float, top: float) -> None:
    if phrase.mark:
        page.lines(left, top, [phrase.mark], color=phrase.colour)
        left += INDENT
    page.lines(left, top, phrase.lines, color=phrase.colour)
