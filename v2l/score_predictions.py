"""Metrics of one source of predictions: per item, and aggregated with confidence intervals.

`job.source` is the source, as `Source` writes it, and decides which measure of `MEASURES` is taken; `job.tokenizer`
names the tokenizer, or is `pixels`.
"""

import json
import logging
from functools import partial
from typing import Any

from v2l.configuration.known_metrics import metric
from v2l.configuration.measures import MEASURES
from v2l.configuration.registry import implementation_of
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import write_beside
from v2l.io.storage import write_parquet
from v2l.metrics.rows import Measurement, items_table, joined, mode_note
from v2l.pipeline.record import provenance
from v2l.pipeline.shards import sharded_tables
from v2l.pipeline.stage import run_stage


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Score a source; writes `metrics` (JSON, provenance beside it) and `per_item` (Parquet): see `measure_*`."""
    source = Source.parse(config.job["source"])
    record = provenance(config, inputs)
    measure = implementation_of(MEASURES[source.task])
    share = partial(sharded_tables, config, record, inputs, outputs)
    measurements: list[Measurement] = measure(config, source, inputs, share)
    section = config.score_predictions
    rows = [
        _with_mode(measurement.row(config.seed, section.bootstrap_samples), section.mode)
        for measurement in measurements
    ]
    write_parquet(outputs["per_item"], items_table(measurements), record)
    with atomic_path(outputs["metrics"]) as temporary:
        temporary.write_text(json.dumps({"rows": rows}, indent=1, allow_nan=False) + "\n")
    write_beside(outputs["metrics"], record)
    logging.info("%s of %s: %d measurements", source, config.job["tokenizer"], len(rows))


def _with_mode(row: dict[str, Any], mode: str) -> dict[str, Any]:
    return row | {"note": joined(row["note"], mode_note(metric(row["metric"]), mode))}


if __name__ == "__main__":
    run_stage(run)
