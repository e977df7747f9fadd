"""The experiment's configuration and helpers of the rule files; no rules."""

import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir).parent))

from v2l import timings, workflow as stages
from v2l.cluster import executor
from v2l.cluster.request import Request
from v2l.cluster.site import Site
from v2l.errors import UserError
from v2l.experiment import load_experiment

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
SHOWN_SOURCES = stages.shown_sources(CONFIG)

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
    source = wildcards.get("source") or wildcards.get("figure") or "restoration"
    return "reconstruction" if source in ("reconstruction", "mean-image") else "restoration"


def source_manifest(wildcards):
    """Manifest of a source's sample."""
    return f"{RESULTS}/index_images/{CONFIG.samples[source_sample(wildcards)].dataset}.parquet"


def import_codebook(wildcards):
    """This experiment's codebook, for an imported tokenizer whose words are not published with it."""
    entry = CONFIG.tokenizers[wildcards.tokenizer]
    needs = entry.method == "v2l" and not entry.codebooks
    return [f"{RESULTS}/filter_vocabulary/codebook.safetensors"] if needs else []


def predictor_keys(wildcards):
    """Registry entry of the predictor, if it is a language model."""
    return [f"llms.{wildcards.predictor}"] if wildcards.predictor in CONFIG.llms else []


def predictor_features(wildcards):
    """Image features, for the one predictor that reads no tokens."""
    needs = wildcards.predictor == "clip-prototype"
    return [f"{RESULTS}/embed_images/{CONFIG.samples['classification'].dataset}.safetensors"] if needs else []


def source_weights(wildcards):
    """Weights whose geometry the originals are read with; images that no tokenizer made follow the first."""
    tokenizer = wildcards.get("tokenizer") or "pixels"
    trained = CONFIG.train_tokenizer.tokenizers[0] if tokenizer == "pixels" else tokenizer
    return f"{RESULTS}/train_tokenizer/{trained}.safetensors"


def score_slice(source):
    """Params of a score: the metric settings and what is scored."""
    return slice_of("seed", "score_predictions", tokenizer="{tokenizer}", source=source)


def shown_images(wildcards):
    """Images that a figure puts side by side."""
    return [f"{RESULTS}/reconstruct_images/{source}.parquet" for source in SHOWN_SOURCES[wildcards.figure]]
