"""The tables: every measurement as a row of a long CSV, and the same as Markdown and LaTeX laid out as in the paper."""

import csv
import logging
from typing import Any

from v2l.configuration.slices import StageConfig
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import write_beside
from v2l.metrics.rows import joined
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.tables.differences import difference_note, differences
from v2l.tables.latex_view import latex
from v2l.tables.markdown_view import markdown
from v2l.tables.published import COLUMNS as PUBLISHED_COLUMNS
from v2l.tables.published import Published
from v2l.tables.row_order import sort_key
from v2l.tables.score_files import read_rows
from v2l.tables.tables import TABLES
from v2l.tables.views import View


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `csv`, `markdown` and `latex` of `job.table` from `metrics` and `per_item` (scores) and `published`.

    Raises UserError for a table that is not known, metrics files that it cannot be made of (`read_rows`), or wrong
    published numbers.
    """
    table = TABLES[config.job["table"]]
    rows = read_rows(table, inputs.files("metrics"), inputs.files("per_item"))
    metrics = table.shown_metrics({row["metric"] for row in rows})
    rows.sort(key=lambda row: sort_key(row, metrics))
    samples = config.score_predictions.bootstrap_samples
    for row, difference in zip(rows, differences(rows, table.key_columns, config.seed, samples), strict=True):
        row["difference"] = difference
    published = Published(inputs["published"])
    record = provenance(config, inputs)

    columns = ["experiment", "protocol", *table.key_columns, "metric", *metrics, "ci_low", "ci_high", "n", "note"]
    with atomic_path(outputs["csv"]) as temporary, open(temporary, "w", newline="") as handle:
        writer = csv.DictWriter(handle, [*columns, *PUBLISHED_COLUMNS], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            full = row | {"table": table.name, "experiment": config.experiment}
            full |= {row["metric"]: row["value"], "note": _note(row)} | published.of(full)
            writer.writerow({name: full[name] for name in writer.fieldnames if full.get(name) is not None})
    view = View(table, config.experiment, rows, metrics, config.make_tables.intervals)
    for name, text in [("markdown", markdown(view)), ("latex", latex(view))]:
        with atomic_path(outputs[name]) as temporary:
            temporary.write_text(text)
    for name in ("csv", "markdown", "latex"):
        write_beside(outputs[name], record)
    logging.info("%s of experiment %s: %d measurements", table.name, config.experiment, len(rows))


def _note(row: dict[str, Any]) -> str:
    """The note of a row in the CSV: what was said of it, and its difference to the table's first method."""
    return joined(row["note"], difference_note(row, row["difference"]) if row["difference"] else "")


if __name__ == "__main__":
    run_stage(run)
