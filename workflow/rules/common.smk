"""The experiment's configuration and helpers of the rule files; no rules."""

import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir).parent))

from v2l import timings, workflow as stages
from v2l.errors import UserError
from v2l.experiment import load_experiment

try:
    CONFIG = load_experiment(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

PYTHON = sys.executable
RESULTS = f"results/{CONFIG.experiment}"
LOGS = f"logs/{CONFIG.experiment}"

slice_of = partial(stages.slicer, CONFIG)
assets_of = partial(stages.asset_records, CONFIG)
stage_code = stages.stage_code
stage_command = stages.stage_command


wildcard_constraints:
    asset="[^/]+",
    dataset="[^/]+",
    tokenizer="[^/]+",
    predictor="[^/]+",
    sample="[a-z]+",
    table="table[0-9][a-z_0-9]+",
    figure="[a-z_]+",


def needed_slices():
    """The configuration slices of the jobs that are about to run."""
    slices = [job.params.get("config") for job in workflow.dag.needrun_jobs() if job.rule.name != "fetch_assets"]
    return [text for text in slices if text]


onstart:
    missing = stages.missing_paths(needed_slices())
    if missing:
        raise WorkflowError(
            "paths that this run needs do not exist:\n  "
            + "\n  ".join(missing)
            + f"\nExpected: your own files. What to do: put them there, or set these keys for experiment {CONFIG.experiment}."
        )


onsuccess:
    print(f"Minutes per stage of experiment {CONFIG.experiment}:")
    print(timings.stage_minutes(Path(LOGS)))
