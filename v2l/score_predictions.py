"""Metrics of one source of predictions: per item, and aggregated with confidence intervals.

`job.source` is the source, as `Source` writes it, and decides which measure of `MEASURES` is taken; `job.tokenizer`
names the tokenizer, or is `pixels`.
"""

import logging
from functools import partial

from v2l.configuration.measures import MEASURES
from v2l.configuration.registry import implementation_of
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.io.job_files import Inputs, Outputs
from v2l.io.json_records import write_json
from v2l.io.records import write_beside
from v2l.io.storage import write_parquet
from v2l.metrics.rows import Measurement, items_table
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
    samples = config.score_predictions.bootstrap_samples
    rows = [measurement.row(config.seed, samples) for measurement in measurements]
    write_parquet(outputs["per_item"], items_table(measurements), record)
    write_json(outputs["metrics"], {"rows": rows})
    write_beside(outputs["metrics"], record)
    logging.info("%s of %s: %d measurements", source, config.job["tokenizer"], len(rows))


if __name__ == "__main__":
    run_stage(run)
