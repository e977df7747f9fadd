"""The experiment's configuration and helpers of the rule files; no rules."""

import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir).parent))

from v2l.pipeline import selections
from v2l.pipeline import timings
from v2l.pipeline import rules as stages
from v2l.cluster import executor
from v2l.cluster.request import Request
from v2l.cluster.site import Site
from v2l.errors import UserError
from v2l.configuration.experiment import load_experiment
from v2l.configuration.protocols import split_run

try:
    CONFIG = load_experiment(config)
    stages.check_assets(CONFIG)
except UserError as error:
    raise WorkflowError(str(error)) from None

executor.install()

# Jobs run the Python that runs Snakemake, also when its environment is not activated.
shell.prefix(f"export PATH={Path(sys.executable).parent}:$PATH; ")
ENVIRONMENT = "../../environment.yml"  # for `--sdm conda`
RESULTS = f"results/{CONFIG.experiment}"
LOGS = f"logs/{CONFIG.experiment}"

SITE = Site(workflow, CONFIG)
SHARDS = {"shards": 1, "launcher": ""}  # processes that share a stage's work, and what starts each of them
SHOWN_SOURCES = selections.shown_sources(CONFIG)

slice_of = partial(stages.slicer, CONFIG)
assets_of = partial(stages.asset_records, CONFIG)
stage_code = stages.stage_code
stage_command = stages.stage_command
launched = stages.launched


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


def source_sample(wildcards):
    """The sample whose images a source of images shows."""
    source = wildcards.get("source") or wildcards.get("figure") or wildcards.task
    kind = source.partition(".")[0]
    return {"mean-image": "reconstruction", "corrupted-input": "restoration"}.get(kind, kind)


def source_keys(wildcards):
    """Section of the task whose tokens a source decodes; clean tokens belong to no task."""
    sample = source_sample(wildcards)
    return [] if sample == "reconstruction" else [f"evaluate_llm.{sample}"]


def predictor_keys(wildcards):
    """Registry entry of the predictor, if it is a language model."""
    predictor = split_run(wildcards.predictor)[0]
    return [f"llms.{predictor}"] if predictor in CONFIG.llms else []


def score_slice(source, *keys):
    """Params of a score: the metric settings and what is scored."""
    return slice_of("seed", "score_predictions", *keys, tokenizer="{tokenizer}", source=source)


def encoder_keys(wildcards):
    """The encoder, for the one task whose score compares texts with images."""
    return ["encoder", f"encoders.{CONFIG.encoder}"] if wildcards.task == "captioning" else []
