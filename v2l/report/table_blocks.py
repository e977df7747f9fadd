"""Tables laid out for the page: blocks with a column for each measurement, the best of each marked."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from v2l.configuration.baselines import BASELINES
from v2l.configuration.known_metrics import metric
from v2l.errors import UserError
from v2l.tables.row_order import task_rank
from v2l.tables.specification import Table

AVERAGE = "average"
NOTHING = "\N{EN DASH}"
Row = dict[str, str]  # of a table's CSV
Setting = tuple[str, ...]  # values of the keys that go across


@dataclass
class ShownCell:
    """One measurement: `text` as shown, `value` None if there is none; `interval` is the 95 % confidence interval."""

    text: str
    value: float | None = None
    interval: str = ""
    n: str = ""
    note: str = ""
    published: str = ""
    link: str = ""
    is_best: bool = False


@dataclass
class ShownRow:
    """`keys` are the texts of the row's key columns; one that is no candidate is never marked as the best."""

    keys: list[str]
    cells: list[ShownCell]
    protocol: str
    is_candidate: bool


@dataclass
class ShownBlock:
    """Rows that may be compared with each other; `columns` are a heading and the better direction."""

    title: str
    keys: list[str]
    columns: list[tuple[str, str]]
    rows: list[ShownRow] = field(default_factory=list)

    @property
    def n(self) -> str:
        """The number of items of every value; '' if it is not the same for all."""
        counts = {cell.n for row in self.rows for cell in row.cells if cell.n}
        return counts.pop() if len(counts) == 1 else ""


def read_table(path: Path) -> list[Row]:
    """The rows of a table's CSV. Raises UserError for a file that is none."""
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error})", "a table of make_tables", "make it again") from None
    if not rows or not {"protocol", "metric", "n", "note"} <= set(rows[0]):
        raise UserError(f"{path} holds no measurements", "columns protocol, metric, n and note", "make it again")
    return rows


def row_key(table: Table, row: Mapping[str, object]) -> tuple[str, ...]:
    """What tells a measurement from all others, in a CSV and in a file of scores alike."""
    columns = (*table.key_columns, "protocol", "metric")
    return tuple("" if row.get(name) is None else str(row[name]) for name in columns)


def blocks(table: Table, rows: Sequence[Row], links: Mapping[tuple[str, ...], str]) -> list[ShownBlock]:
    """The table's blocks: one for each value of its key `block`, or of what goes across if there are several metrics.

    `links` is the place in the page of what stands behind a measurement, by `row_key`.
    """
    measured = {row["metric"] for row in rows}
    metrics = [name for name in table.shown_metrics(measured) if name in measured]
    is_split_across = bool(table.across) and len(metrics) > 1
    split = table.across if is_split_across else tuple(filter(None, [table.block]))
    layout = _Layout(table, () if is_split_across else table.across, metrics, links)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: task_rank(row.get("task"))) if is_split_across else rows:
        groups.setdefault(tuple(row[key] for key in split), []).append(row)
    keys = [key for key in table.row_keys if key not in split]
    keys += ["protocol"] if len({row["protocol"] for row in rows}) > 1 else []
    made = []
    for values, members in groups.items():
        title = ", ".join(key_text(key, value) for key, value in zip(split, values, strict=True))
        shown = [key for key in keys if key == "method" or any(row[key] for row in members)]
        made.append(layout.block(title, shown, members))
        _mark_best(made[-1])
    return made


@dataclass(frozen=True)
class _Layout:
    table: Table
    across: tuple[str, ...]
    metrics: list[str]
    links: Mapping[tuple[str, ...], str]

    def block(self, title: str, keys: list[str], rows: Sequence[Row]) -> ShownBlock:
        settings = self._settings(rows)
        columns = [(setting, name) for setting in settings for name in self.metrics]
        paper = self._paper_settings()
        is_averaged = bool(paper) and set(paper) <= set(settings)
        headings = [(self._heading(*column), metric(column[1]).better) for column in columns]
        block = ShownBlock(title, keys, headings + ([(AVERAGE, headings[0][1])] if is_averaged else []))
        together: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            together.setdefault((*(row[key] for key in keys), row["protocol"]), []).append(row)
        for values, members in together.items():
            found = {(tuple(row[key] for key in self.across), row["metric"]): row for row in members}
            cells = [self._cell(found.get(column)) for column in columns]
            if is_averaged:
                shown = [cell.value for cell, (setting, _) in zip(cells, columns, strict=True) if setting in paper]
                cells.append(self._average(shown))
            texts = [key_text(key, value, alone=True) for key, value in zip(keys, values[:-1], strict=True)]
            block.rows.append(ShownRow(texts, cells, values[-1], _is_candidate(members[0]["method"])))
        return block

    def _paper_settings(self) -> list[Setting]:
        return [tuple(map(str, setting)) for setting in self.table.paper_columns] if self.across else []

    def _settings(self, rows: Sequence[Row]) -> list[Setting]:
        """What goes across, the paper's first; what no row has is left out."""
        found, paper = dict.fromkeys(tuple(row[key] for key in self.across) for row in rows), self._paper_settings()
        return [*(known for known in paper if known in found), *(other for other in found if other not in paper)]

    def _heading(self, setting: Setting, name: str) -> str:
        said = ", ".join(key_text(key, value) for key, value in zip(self.across, setting, strict=True))
        return said if said and len(self.metrics) == 1 else metric(name).label

    def _average(self, values: Sequence[float | None]) -> ShownCell:
        measured = [value for value in values if value is not None]
        if len(measured) < len(values):
            return ShownCell(NOTHING)
        return ShownCell(number_text(fmean(measured)), fmean(measured))

    def _cell(self, row: Row | None) -> ShownCell:
        if row is None:
            return ShownCell(NOTHING)
        cell = ShownCell(NOTHING, n=row["n"], note=row["note"], link=self.links.get(row_key(self.table, row), ""))
        if text := row.get(row["metric"]):
            cell.value = float(text)
            cell.text = number_text(cell.value)
            cell.published = row.get("published", "")
            if row["ci_low"] and row["ci_high"]:
                cell.interval = "\N{EN DASH}".join(number_text(float(row[name])) for name in ("ci_low", "ci_high"))
        return cell


def _is_candidate(method: str) -> bool:
    """Bounds are no methods: what they have is no achievement."""
    return method not in BASELINES or BASELINES[method].predicts


def _mark_best(block: ShownBlock) -> None:
    """Mark the best cells of each column and protocol, as they are shown: of candidates measured on the most items."""
    for protocol in {row.protocol for row in block.rows}:
        candidates = [row for row in block.rows if row.is_candidate and row.protocol == protocol]
        for number, (_, better) in enumerate(block.columns):
            cells = [row.cells[number] for row in candidates if row.cells[number].value is not None]
            most = max((int(cell.n or 0) for cell in cells), default=0)
            cells = [cell for cell in cells if int(cell.n or 0) == most]
            if len({cell.text for cell in cells}) > 1:
                best = (max if better == "higher" else min)(cells, key=lambda cell: cell.value or 0)
                for cell in cells:
                    cell.is_best = cell.text == best.text


def number_text(value: float) -> str:
    """A number with the digits that its size leaves worth reading: 0.123, 12.34, 123.4."""
    return f"{value:.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"


def key_text(key: str, value: str, alone: bool = False) -> str:
    """A key's value in words; numbers and switches name their key unless it stands in the heading (`alone`)."""
    text = {"True": "yes", "False": "no", "": NOTHING}.get(value, value)
    return text if alone or text == value and not value.isdigit() else f"{key.replace('_', ' ')} {text}"
