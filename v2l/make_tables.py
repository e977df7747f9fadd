"""The tables: every measurement as a row of a long CSV, and the same as Markdown and LaTeX laid out as in the paper."""

import csv
import json
import logging
import re
from pathlib import Path

from v2l.configuration.dataset_entries import TASKS
from v2l.configuration.protocols import PAPER
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import write_beside
from v2l.metrics.rows import TABLE_KEYS, VALUE_COLUMNS
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.tables.published import COLUMNS as PUBLISHED_COLUMNS
from v2l.tables.published import Published
from v2l.tables.views import View

FRECHET = ("fid", "fd_efficientnet_lite0")
METRICS = {
    "table1_classification": ("accuracy",),
    "table2_semantics": ("clip_score", "clip_r"),
    "table3_reconstruction": (*FRECHET, "lpips", "psnr", "ssim"),
    "table4_restoration": (*FRECHET, "lpips", "psnr"),
    "table5_captioning_vqa": ("vqa_accuracy", "cider", "clip_score", "bleu_4"),
}
METHODS = (  # baselines follow the methods; in tables 1 and 4, those of the same tokenizer
    *("v2l", "v2l-subword", "v2l-local", "vqgan", "lqae", "spae"),
    *("token-overlap", "clip-prototype", "majority-vote", "most-frequent-code"),
    *("tokenizer-oracle", "corrupted-input", "mean-image"),
)


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `csv`, `markdown` and `latex` of `job.table` from `metrics` (score files) and `published`.

    Raises UserError when a metrics file is damaged or of another table, a row occurs twice, or there are no rows.
    """
    table = config.job["table"]
    rows = sorted(read_rows(table, inputs.files("metrics")), key=sort_key)
    names = metric_names(table, rows)
    published = Published(inputs["published"])
    record = provenance(config, inputs)

    columns = ["experiment", "protocol", *TABLE_KEYS[table], "metric", *names, "ci_low", "ci_high", "n", "note"]
    with atomic_path(outputs["csv"]) as temporary, open(temporary, "w", newline="") as handle:
        writer = csv.DictWriter(handle, [*columns, *PUBLISHED_COLUMNS], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            full = row | {"table": table, "experiment": config.experiment}
            full |= {row["metric"]: row["value"]} | published.of(full)
            writer.writerow({name: full[name] for name in writer.fieldnames if full.get(name) is not None})
    view = View(table, config.experiment, rows, names, config.make_tables.decimals)
    for name, text in [("markdown", view.markdown()), ("latex", view.latex())]:
        with atomic_path(outputs[name]) as temporary:
            temporary.write_text(text)
    for name in ("csv", "markdown", "latex"):
        write_beside(outputs[name], record)
    logging.info("%s of experiment %s: %d measurements", table, config.experiment, len(rows))


def read_rows(table: str, paths: list[Path]) -> list[dict]:
    """Rows of metrics files, checked: they belong to `table`, and none occurs twice."""
    expected = {*TABLE_KEYS[table], *VALUE_COLUMNS}
    rows: dict[tuple, dict] = {}
    for path in paths:
        try:
            found = json.loads(path.read_text())["rows"]
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{path} cannot be read as a metrics file ({error})"
            raise UserError(problem, "JSON with `rows`", "delete it and run again") from None
        for row in found:
            if set(row) != expected or row["metric"] not in METRICS[table]:
                problem = f"{path} has a row {sorted(row)} with metric {row.get('metric')!r}"
                raise UserError(problem, f"columns {sorted(expected)}", f"pass only metrics of {table}")
            key = tuple(row[name] for name in (*TABLE_KEYS[table], "metric", "protocol"))
            if key in rows:
                named = {name: row[name] for name in (*TABLE_KEYS[table], "metric")}
                raise UserError(
                    f"{path} has a row that was there already: {named}", "each row once", "pass each source once"
                )
            rows[key] = row
    if not rows:
        raise UserError(
            f"{table} has no rows", "at least one measurement", "select something to evaluate for it, or leave it out"
        )
    return list(rows.values())


def metric_names(table: str, rows: list[dict]) -> list[str]:
    """Metric columns of a table; of the Frechet distances only those that were measured."""
    present = {row["metric"] for row in rows}
    return [name for name in METRICS[table] if name not in FRECHET or name in present]


def sort_key(row: dict) -> tuple:
    """Methods as in `METHODS`, baselines below their tokenizer's rows, then the paper's cells, metrics last."""
    tokenizer = row["tokenizer"] if "tokenizer" in row else row["method"]
    counts = [row.get(name) or 0 for name in ("vocabulary_size", "global_tokens", "tokens", "ways", "induction")]
    task = row.get("task")
    metric = next(names.index(row["metric"]) for names in METRICS.values() if row["metric"] in names)
    return (
        tokenizer is None,
        _rank(tokenizer),
        _rank(row["method"]),
        _natural(row.get("llm")),
        row["protocol"] != PAPER,
        row["protocol"],
        *counts,
        row.get("repeats") or 0,
        row.get("inner_shots") or 0,
        TASKS.index(task) if task in TASKS else len(TASKS),
        task or "",
        metric,
    )


def _rank(name: str | None) -> tuple[int, str]:
    """Unknown names stand between the paper's methods and the baselines."""
    first_baseline = METHODS.index("token-overlap")
    if name in METHODS:
        rank = METHODS.index(name)
        return rank if rank < first_baseline else rank + 1, ""
    return first_baseline, name or ""


def _natural(name: str | None) -> list[tuple[int, str]]:
    """Sorts `llama-2-7b` before `llama-2-13b`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name or "")]


if __name__ == "__main__":
    run_stage(run)
