"""The experiment's configuration and helpers of the rule files; no rules."""

import os
import sys
from functools import partial
from pathlib import Path

from v2l.cluster import card_check, executor
from v2l.cluster.request import Request
from v2l.cluster.site import Site
from v2l.configuration.baselines import BASELINES
from v2l.configuration.experiment import load_experiment
from v2l.configuration.extensions import VARIABLE
from v2l.configuration.imported_weights import has_checkpoint
from v2l.configuration.runs import Run
from v2l.configuration.sources import Source, run_pattern, source_pattern
from v2l.pipeline import figure_files, required_files, rule_params, selections, timings
from v2l.pipeline.job_commands import job_environment, launched, stage_command
from v2l.pipeline.rule_params import language_model_keys, one_of, slicer, trained_names, training_slicer
from v2l.figures.figures import FIGURES
from v2l.report.present_files import present_files, template_files
from v2l.tables.tables import TABLES

try:
    CONFIG = load_experiment(config)
    required_files.check_paths(CONFIG)
except UserError as error:
    raise WorkflowError(str(error)) from None

executor.install()

# Jobs run the Python that runs Snakemake, also when its environment is not activated, and with the same extensions.
shell.prefix(job_environment(Path(sys.executable).parent, {VARIABLE: os.pathsep.join(CONFIG.extensions)}))
ENVIRONMENT = "../../environment.yml"  # for `--sdm conda`
RESULTS = f"results/{CONFIG.experiment}"
LOGS = f"logs/{CONFIG.experiment}"

SITE = Site(workflow, CONFIG)
SHARDS = {"shards": 1, "launcher": ""}  # processes that share a stage's work, and what starts each of them

slice_of = partial(slicer, CONFIG)
training_slice_of = partial(training_slicer, CONFIG)
assets_of = partial(required_files.asset_records, CONFIG)
params_of = partial(rule_params.params_of, CONFIG)


wildcard_constraints:
    asset="[^/]+",
    dataset="[^/]+",
    tokenizer="[^/]+",
    predictor="[^/]+",
    sample="[a-z]+",
    table="table[0-9][a-z_0-9]+",
    figure="[a-z_]+",


def sample_dataset(wildcards):
    """Data set of the sample (or of the task's sample) in the wildcards."""
    return CONFIG.samples[wildcards.get("sample") or wildcards.task].dataset


def source_task(wildcards):
    """The task, and so the sample, whose images a source or a figure shows."""
    return Source.parse(wildcards.get("source") or wildcards.get("figure") or wildcards.task).task
