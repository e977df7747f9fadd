"""Stage evaluate_llm: frozen language models, and predictors without one, answer the prompts of a task.

Answers are stored raw with their prompts; scoring them is the next stage's work.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pyarrow as pa

from v2l.configuration.registry import implementation_of
from v2l.configuration.slices import StageConfig
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import parquet_metadata, parquet_writer
from v2l.llm.journal import Journal
from v2l.pipeline.record import provenance
from v2l.pipeline.run_folder import run_folder
from v2l.pipeline.shards import sharded_tables
from v2l.pipeline.stage import run_stage
from v2l.tasks.evaluation_task import EvaluationTask


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write the predictions of `job.predictor` for `job.task` on the tokens of `job.tokenizer`.

    Finished batches stand in a folder of `job.work` named by the hash of configuration and inputs, so that an
    interrupted run goes on where it stopped; the folder goes when the predictions are written. Machine settings:
    `shards` (processes that share the work) and `launcher` (a command that starts each of them, for example srun).
    """
    record = provenance(config, inputs)
    section = getattr(config.evaluate_llm, config.job["task"])
    task: EvaluationTask = implementation_of(section)(config, inputs)

    def answered(folder: Path | None, blocks: Sequence) -> Iterator[pa.Table]:
        title = f"{config.job['task']} by {config.job['predictor']}"
        mine = task.prompts * len(blocks) // max(1, len(task.blocks))
        with Journal(title, mine, folder, int(config.machine.get("shard", 0))) as journal:
            answer = task.answering(journal)
            yield from map(answer, blocks)
            journal.finish()

    note = parquet_metadata(inputs["tokens"])["tokenizer"]["note"]
    metadata = {"protocol": config.job["protocol"], "tokenizer_note": note}
    rows = 0
    with run_folder(config, record) if "work" in config.job else nullcontext() as folder:
        tables = sharded_tables(config, record, inputs, outputs, task.blocks, partial(answered, folder), folder)
        with parquet_writer(outputs["predictions"], task.schema, record, metadata) as writer:
            for table in tables:
                writer.write_table(table.cast(writer.schema))
                rows += len(table)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
    logging.info("%d predictions by %s on %s", rows, config.job["predictor"], config.job["tokenizer"])


if __name__ == "__main__":
    run_stage(run)
