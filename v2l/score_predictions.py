"""Metrics of one source of predictions: per item, and aggregated with confidence intervals.

`job.source` is `classification.<predictor>` (table 1), `semantics` (table 2), `reconstruction` or `mean-image`
(table 3), `corrupted-input` or `restoration.<predictor>` (table 4), `captioning.<predictor>` or `vqa.<predictor>`
(table 5); `job.tokenizer` names the tokenizer, or `pixels`.
"""

import json
import logging
from functools import partial

from v2l.configuration.slices import StageConfig
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import write_beside
from v2l.io.storage import write_parquet
from v2l.metrics.accuracy import measure_classification
from v2l.metrics.rows import items_table
from v2l.metrics.vqa_accuracy import measure_vqa
from v2l.pipeline.record import provenance
from v2l.pipeline.shards import shared_out
from v2l.pipeline.stage import run_stage

PROTOCOL = "paper"  # of sources that no language model answered


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Score a source; writes `metrics` (JSON, provenance beside it) and `per_item` (Parquet): see `measure_*`."""
    tokenizer, source = config.job["tokenizer"], config.job["source"]
    # Modules of single sources are imported there: some take seconds that the others can spare.
    section = config.score_predictions
    record = provenance(config, inputs)
    kind, _, predictor = source.partition(".")
    if kind == "classification":
        table = "table1_classification"
        measurements = measure_classification(tokenizer, predictor, inputs["predictions"])
    elif kind == "semantics":
        from v2l.metrics.semantics import measure_semantics

        table = "table2_semantics"
        measurements = measure_semantics(config, tokenizer, PROTOCOL, inputs)
    elif kind == "captioning":
        from v2l.metrics.captions import measure_captioning

        table = "table5_captioning_vqa"
        measurements = measure_captioning(config, tokenizer, predictor, inputs)
    elif kind == "vqa":
        table = "table5_captioning_vqa"
        measurements = measure_vqa(tokenizer, predictor, inputs["predictions"])
    else:
        from v2l.metrics.image_sources import measure_images, table_of

        table = table_of(source)
        share = partial(shared_out, config, record, inputs, outputs)
        measurements = measure_images(section, tokenizer, source, PROTOCOL, inputs, share)
    rows = [measurement.row(config.seed, section.bootstrap_samples) for measurement in measurements]
    write_parquet(outputs["per_item"], items_table(measurements, table), record)
    with atomic_path(outputs["metrics"]) as temporary:
        temporary.write_text(json.dumps({"rows": rows}, indent=1, allow_nan=False) + "\n")
    write_beside(outputs["metrics"], record)
    logging.info("%s of %s: %d measurements", source, tokenizer, len(rows))


if __name__ == "__main__":
    run_stage(run)
