"""The cells of table 1, and what the prompt of an episode shows in one of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from v2l.configuration.cell_settings import CELL_SETTINGS, Value
from v2l.configuration.evaluation import Grid
from v2l.configuration.registry import implementation_of
from v2l.io.storage import ARROW_TYPES
from v2l.llm.prompts import SEPARATOR, join_words, released_name
from v2l.tasks.episodes import Episode


class Cell(NamedTuple):
    """One cell of table 1; `further` are the settings that extensions add, in their order."""

    ways: int
    tokens: int
    induction: bool
    inner_shots: int
    repeats: int
    further: tuple[Value, ...] = ()

    def columns(self) -> dict[str, Value]:
        """The settings by the name of their column."""
        values = self._asdict()
        del values["further"]
        return values | dict(zip(CELL_SETTINGS, self.further, strict=True))


def cells_of(grids: Iterable[Grid]) -> list[Cell]:
    """The cells of all grid blocks, each once, in the order of the config."""
    found = []
    for grid in grids:
        given = grid.model_extra or {}
        further = [given.get(name, [setting.default]) for name, setting in CELL_SETTINGS.items()]
        own = product(grid.ways, grid.tokens, grid.induction, grid.inner_shots, grid.repeats)
        found += [Cell(*values, rest) for values, rest in product(own, product(*further))]
    return list(dict.fromkeys(found))


def further_columns() -> list[tuple[str, pa.DataType]]:
    """Columns of predictions for the settings that extensions add."""
    return [(name, ARROW_TYPES[type(setting.default)]) for name, setting in CELL_SETTINGS.items()]


@dataclass(frozen=True)
class Shown:
    """What a prompt shows: class names, the examples as (joined words, class name), and the query's joined words."""

    class_names: list[str]
    examples: list[tuple[str, str]]
    query: str

    def with_settings(self, cell: Cell) -> "Shown":
        """As the cell's further settings change it."""
        shown = self
        for setting, value in zip(CELL_SETTINGS.values(), cell.further, strict=True):
            shown = implementation_of(setting)(value, shown)
        return shown

    def with_examples(self, examples: list[tuple[str, str]]) -> "Shown":
        """The same with other examples."""
        return replace(self, examples=examples)


@dataclass(frozen=True)
class ShownImages:
    """The sample: one row per image, `code_NK` the codes that stand for words, `text_V` the words."""

    image_id: np.ndarray
    split: np.ndarray
    class_name: np.ndarray
    code_NK: np.ndarray
    text_V: list[str]

    def words(self, image: int, tokens: int, released: bool = False) -> str:
        """The joined words of an image's first `tokens` codes."""
        return join_words((self.text_V[code] for code in self.code_NK[image, :tokens]), "" if released else SEPARATOR)

    def shown(self, cell: Cell, episode: Episode, released: bool = False) -> Shown:
        """What the prompt of an episode shows in a cell."""
        names = [released_name(name) if released else name for name in episode.class_names]
        words = [self.words(image, cell.tokens, released) for image in episode.support]
        examples = list(zip(words, [names[label] for label in episode.support_labels], strict=True))
        return Shown(names, examples, self.words(episode.query, cell.tokens, released)).with_settings(cell)


def row(cell: Cell, episode: Episode, images: ShownImages, found: dict[str, Any]) -> dict[str, Any]:
    """The row of predictions of an episode in a cell, `found` being what was answered."""
    asked = {
        "episode": episode.number,
        "query_image": images.image_id[episode.query],
        "class_names": episode.class_names,
        "support_images": [images.image_id[image] for image in episode.support],
        "support_labels": episode.support_labels,
        "target": episode.target,
    }
    return cell.columns() | asked | found
