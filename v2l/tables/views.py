"""Markdown and LaTeX views of a table, laid out as in the paper: methods down, settings, tasks or metrics across."""

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from v2l.configuration.known_metrics import metric
from v2l.tables.escaping import latex_text, markdown_text
from v2l.tables.row_order import task_rank
from v2l.tables.specification import Table

AVERAGE = "average"
MISSING = "\N{EN DASH}"
Heading = tuple[str, ...]  # what stands above a column, a line each


@dataclass(frozen=True)
class View:
    """A table for readers: `rows` of metrics files in the table's order, `metrics` its metric columns."""

    table: Table
    experiment: str
    rows: list[dict[str, Any]]
    metrics: list[str]
    decimals: int

    def caption(self) -> str:
        """Title, experiment, protocol and number of items."""
        protocols = ", ".join(sorted({row["protocol"] for row in self.rows}))
        counts = sorted({row["n"] for row in self.rows})
        n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        items = f"n = {n} {self.table.items} per value"
        return f"{self.table.title}. Experiment {self.experiment}, protocol {protocols}, {items}."

    def frame(self) -> pd.DataFrame:
        """Texts of the table; columns are tuples (the header's lines), the row keys come first."""
        keys, paper = self._row_keys(), self._paper_columns()
        cells: dict[tuple, dict[tuple[Heading, str], float | None]] = {}
        for row in self.rows:
            values = cells.setdefault(tuple(row[key] for key in keys), {})
            values[self._setting(row), row["metric"]] = row["value"]
        if self.table.block:
            cells = dict(sorted(cells.items(), key=lambda item: item[0][0]))
        columns = [(setting, name) for setting in self._settings() for name in self.metrics]
        texts = []
        for found, values in cells.items():
            for name in self.metrics if paper else ():
                shown = [value for setting in paper if (value := values.get((setting, name))) is not None]
                values[self._average(), name] = fmean(shown) if len(shown) == len(paper) else None
            texts.append([*map(_key_text, found), *(self._value_text(values.get(column)) for column in columns)])
        headings = [self._heading(*column) for column in columns]
        padding = ("",) * (len(headings[0]) - 1)
        header = [(*padding, key.replace("_", " ")) for key in keys] + headings
        return pd.DataFrame(texts, columns=pd.MultiIndex.from_tuples(header))

    def markdown(self) -> str:
        """A GitHub table under the caption, header lines joined, and the notes below."""
        frame = self.frame().map(markdown_text)
        aligned = ["left"] * len(self._row_keys())
        aligned += ["right"] * (frame.shape[1] - len(aligned))
        frame.columns = pd.Index([markdown_text(", ".join(filter(None, column))) for column in frame.columns])
        body = frame.to_markdown(index=False, disable_numparse=True, colalign=aligned)
        notes = "".join(f"- {markdown_text(note)}\n" for note in self._notes())
        return f"{markdown_text(self.caption())}\n\n{body}\n" + (f"\n{notes}" if notes else "")

    def latex(self) -> str:
        """A LaTeX table (booktabs, multirow header) with the caption and the notes; needs no other package."""
        frame, keys = self.frame().replace(MISSING, "--").map(latex_text), len(self._row_keys())
        frame.columns = frame.columns.map(lambda column: tuple(map(latex_text, column)))
        title = self.caption().partition(". ")[2]  # LaTeX numbers its tables itself
        caption = " ".join([title, *(f"{note}." for note in self._notes())])
        return frame.to_latex(
            index=False,
            escape=False,  # done above, captions and all
            multicolumn_format="c",
            column_format="l" * keys + "r" * (frame.shape[1] - keys),
            caption=latex_text(caption),
            label=f"tab:{self.table.name}",
        )

    def _row_keys(self) -> tuple[str, ...]:
        """The protocol is a column where there are several."""
        several = len({row["protocol"] for row in self.rows}) > 1
        return (*self.table.row_keys, "protocol") if several else self.table.row_keys

    def _settings(self) -> list[Heading]:
        """What goes across, in the paper's order; what the paper does not have comes last."""
        paper = self._paper_columns()
        tasks = {self._setting(row): row.get("task") for row in self.rows}
        found = sorted(tasks, key=lambda setting: task_rank(tasks[setting]))
        further = [setting for setting in found if setting not in paper]
        return [*paper, self._average(), *further] if paper else further

    def _paper_columns(self) -> list[Heading]:
        across = self.table.across
        return [self._setting(dict(zip(across, cell, strict=True))) for cell in self.table.paper_columns]

    def _setting(self, row: dict[str, Any]) -> Heading:
        return tuple(_setting_text(key, row[key]) for key in self.table.across)

    def _average(self) -> Heading:
        return (AVERAGE, *("" for _ in self.table.across[1:]))

    def _heading(self, setting: Heading, name: str) -> Heading:
        """A single metric goes without saying where something else stands above the column."""
        return setting if setting and len(self.metrics) == 1 else (*setting, metric(name).label)

    def _value_text(self, value: float | None) -> str:
        if value is None:
            return MISSING
        return f"{value:.{self.decimals}f}" if isinstance(value, float) else str(value)

    def _notes(self) -> list[str]:
        """The table's own notes and what the rows' notes say, by method: each remark once."""
        methods: dict[str, list[str]] = {}
        for row in self.rows:
            for note in filter(None, row["note"].split("; ")):
                named = methods.setdefault(note, [])
                if row["method"] not in named:
                    named.append(row["method"])
        everyone = list(dict.fromkeys(row["method"] for row in self.rows))
        said = [note if named == everyone else f"{', '.join(named)}: {note}" for note, named in methods.items()]
        return [*self.table.notes, *said]


def _setting_text(key: str, value: bool | int | float | str) -> str:
    """A text speaks for itself, a number and a switch need their key."""
    return value if isinstance(value, str) else f"{key.replace('_', ' ')} {_key_text(value)}"


def _key_text(value: bool | int | float | str | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return MISSING if value is None else str(value)
