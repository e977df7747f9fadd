"""Stage evaluate_llm: frozen language models, and predictors without one, answer the prompts of a task.

Answers are stored raw with their prompts; scoring them is the next stage's work.
"""

import logging
import shutil
from pathlib import Path

from v2l.configuration.slices import StageConfig
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import parquet_facts, parquet_writer
from v2l.llm.journal import Progress
from v2l.pipeline.record import provenance, run_key
from v2l.pipeline.shards import merged, run_shards
from v2l.pipeline.stage import run_stage
from v2l.tasks import captioning, classification, masked, restoration, vqa

PREPARE = {
    "classification": classification.prepare,
    "restoration": restoration.prepare,
    "masked": masked.prepare,
    "captioning": captioning.prepare,
    "vqa": vqa.prepare,
}


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write the predictions of `job.predictor` for `job.task` on the tokens of `job.tokenizer`.

    Finished batches stand in a folder of `job.work` named by the hash of configuration and inputs, so that an
    interrupted run goes on where it stopped; the folder goes when the predictions are written. Machine settings:
    `shards` (processes that share the work) and `launcher` (a command that starts each of them, for example srun).
    """
    record = provenance(config, inputs)
    folder = Path(config.job["work"]) / run_key(config, record) if "work" in config.job else None
    shards, shard = int(config.machine.get("shards", 1)), config.machine.get("shard")
    schema, tables, total = PREPARE[config.job["task"]](config, inputs)
    note = parquet_facts(inputs["tokens"])["tokenizer"]["note"]
    facts = {"protocol": config.job["protocol"], "tokenizer_note": note}
    title = f"{config.job['task']} by {config.job['predictor']}"
    rows = 0
    with parquet_writer(outputs["predictions"], schema, record, facts) as writer:
        if folder and shards > 1 and shard is None:
            for table in merged(run_shards(config, inputs, folder, shards, "predictions")):
                writer.write_table(table.cast(writer.schema))
                rows += len(table)
        else:
            place = (0, 1) if shard is None else (int(shard), shards)
            with Progress(title, total // place[1], folder, *place) as progress:
                for table in tables(progress):
                    writer.write_table(table.cast(writer.schema))
                    rows += len(table)
                progress.finish()
            if not progress.shared_out:
                raise RuntimeError(f"task {config.job['task']} does not share out its blocks (`Progress.mine`)")
    if folder and shard is None:
        shutil.rmtree(folder, ignore_errors=True)
    logging.info("%d predictions by %s on %s", rows, config.job["predictor"], config.job["tokenizer"])


if __name__ == "__main__":
    run_stage(run)
