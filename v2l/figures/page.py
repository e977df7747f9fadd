"""A page of one column: images, lines of text and frames at places in inches, so that equal input gives equal files."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

COLUMN = 3.4  # inches, of a two-column page
MARGIN = 0.01
TEXT, HEADING = 7, 8  # points
LINE = 0.125  # inches from one line of TEXT to the next


class Page:
    """Places are (left, top) in inches from the upper left corner."""

    def __init__(self, height: float):
        self.height = height
        self.figure = Figure(figsize=(COLUMN, height))

    def lines(self, left: float, top: float, lines: Iterable[str], align: str = "left", **style) -> None:
        """Lines of text beneath each other; `left` is the side, or the middle, that `align` names."""
        style = {"fontsize": TEXT} | style
        for number, text in enumerate(lines):
            place = (left / COLUMN, 1 - (top + (number + 0.8) * LINE) / self.height)
            self.figure.text(*place, text, ha=align, va="baseline", parse_math=False, **style)

    def image(self, left: float, top: float, side: float, image: np.ndarray) -> Axes:
        """A square uint8 RGB image with a hairline frame."""
        bottom = self.height - top - side
        box = (left / COLUMN, bottom / self.height, side / COLUMN, side / self.height)
        axes = self.figure.add_axes(box)
        axes.imshow(image)
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, linewidth=0.3, color="0.6")
        return axes


def outline(axes: Axes, region_HW: np.ndarray) -> None:
    """Enclose the cells of a boolean map that covers the image: black dashes on white, seen on any picture."""
    height, width = axes.get_images()[0].get_size()
    scale = np.array([width / region_HW.shape[1], height / region_HW.shape[0]])
    segments = edges(region_HW) * scale - 0.5
    for colour, style in (("white", "-"), ("black", (0, (1.5, 1.5)))):
        axes.add_collection(LineCollection(segments, colors=colour, linestyles=[style], linewidths=0.7))


def edges(region_HW: np.ndarray) -> np.ndarray:
    """Sides (K, 2, 2) of a boolean map's cells, as two corners (x, y) each, between what is in the region and what not.

    Sides in a row are one segment.
    """
    padded = np.pad(region_HW.astype(np.int8), 1)
    found = []
    for is_vertical, array in ((False, padded), (True, padded.T)):
        for line, steps in enumerate(np.diff(array, axis=0)[:, 1:-1]):
            ends = np.flatnonzero(np.diff(np.pad(steps, 1)))
            for start, end in pairwise(ends.tolist()):
                if steps[start]:
                    corners = [(start, line), (end, line)]
                    found.append([corner[::-1] for corner in corners] if is_vertical else corners)
    return np.array(found, dtype=float).reshape(-1, 2, 2)
