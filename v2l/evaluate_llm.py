"""Stage evaluate_llm: frozen language models, and predictors without one, answer the prompts of a task.

Answers are stored raw with their prompts; scoring them is the next stage's work.
"""

import logging

from tqdm import tqdm

from v2l.io.provenance import provenance
from v2l.io.storage import parquet_facts, parquet_writer
from v2l.stage import Paths, StageConfig, run_stage
from v2l.tasks import classification, masked, restoration

PREPARE = {"classification": classification.prepare, "masked": masked.prepare, "restoration": restoration.prepare}


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """Write the predictions of `job.predictor` for `job.task` on the tokens of `job.tokenizer`."""
    schema, tables, total = PREPARE[config.job["task"]](config, inputs)
    rows = 0
    note = parquet_facts(inputs["tokens"])["tokenizer"]["note"]
    facts = {"protocol": config.evaluate_llm.protocol, "tokenizer_note": note}
    with (
        parquet_writer(outputs["predictions"], schema, provenance(config, inputs), facts) as writer,
        tqdm(total=total, desc=f"{config.job['task']} by {config.job['predictor']}", disable=None) as progress,
    ):
        for table in tables(progress):
            writer.write_table(table.cast(writer.schema))
            rows += len(table)
        progress.update(total - progress.n)
    logging.info("%d predictions by %s on %s", rows, config.job["predictor"], config.job["tokenizer"])


if __name__ == "__main__":
    run_stage(run)
