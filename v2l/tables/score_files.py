"""Rows of a table, out of the files of scores: these hold every metric that was measured, for any table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from v2l.configuration.known_metrics import known_metrics
from v2l.configuration.registry import nearest
from v2l.errors import UserError
from v2l.io.json_records import read_json
from v2l.metrics.rows import VALUE_COLUMNS
from v2l.tables.differences import read_items
from v2l.tables.specification import Table


def read_rows(table: Table, paths: Sequence[Path], per_item: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of `paths` whose metric `table` shows, with its key columns, the value columns, and `items`.

    `items` are what `per_item`, a file for each of `paths`, holds behind a row (`read_items`).
    Raises UserError for a damaged file, a metric that is not known, a file without a row of the table, a row that lacks
    a column, a row that occurs twice, or no files.
    """
    columns = (*table.key_columns, *VALUE_COLUMNS)
    rows: dict[tuple, dict[str, Any]] = {}
    for path, values in zip(paths, per_item, strict=True):
        found = _shown(table, path)
        for row in found:
            if not set(columns) <= set(row):
                problem = f"{path} has a row {sorted(row)} with metric {row['metric']!r}"
                raise UserError(problem, f"columns {sorted(columns)}", f"pass only metrics of {table.name}")
        for row, items in zip(found, read_items(values, found, table.key_columns), strict=True):
            named = {name: row[name] for name in (*table.key_columns, "metric")}
            key = (*named.values(), row["protocol"])
            if key in rows:
                problem = f"{path} has a row that was there already: {named}"
                raise UserError(problem, "each row once", "pass each source once")
            rows[key] = {name: row[name] for name in columns} | {"items": items}
    if not rows:
        problem, remedy = f"{table.name} has no rows", "select something to evaluate for it, or leave it out"
        raise UserError(problem, "at least one measurement", remedy)
    return list(rows.values())


def _shown(table: Table, path: Path) -> list[dict[str, Any]]:
    """The rows of a file whose metric `table` shows: at least one."""
    known, shown = list(known_metrics()), table.metric_columns
    found = score_rows(path)
    for row in found:
        if row.get("metric") not in known:
            problem = f"{path} has a row {sorted(row)} with metric {row.get('metric')!r}, which is not known"
            raise UserError(problem, nearest(str(row.get("metric")), known), "delete it and run again")
    chosen = [row for row in found if row["metric"] in shown]
    if not chosen:
        others = ", ".join(dict.fromkeys(row["metric"] for row in found)) or "no rows at all"
        problem = f"{path} has no row of {table.name}, but {others}"
        raise UserError(problem, f"a metric of {', '.join(shown)}", f"pass only metrics of {table.name}")
    return chosen


def score_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of scores, of every metric. Raises UserError for a damaged file."""
    try:
        rows = read_json(path)["rows"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("`rows` must be a list of mappings")
    except (KeyError, TypeError) as error:
        problem = f"{path} cannot be read as a metrics file ({error})"
        raise UserError(problem, "JSON with `rows`", "delete it and run again") from None
    return rows
