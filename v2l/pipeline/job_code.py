"""Which things each job uses, and so which code: the sample's corruptions, the task, the tokenizer, the metrics."""

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.config import Config
from v2l.configuration.imported_weights import has_checkpoint, is_imported
from v2l.configuration.measures import MEASURES
from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.registry import Declared
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.runs import IMAGE_TASKS
from v2l.configuration.sources import Source
from v2l.figures.figures import FIGURES

# Declarations that a stage shows itself: labels, notes, units, the order of rows.
SHOWN = {
    "make_tables": ("v2l.configuration.baselines", "v2l.configuration.metrics"),
    "make_figures": ("v2l.configuration.baselines",),
    "make_report": ("v2l.configuration.baselines", "v2l.configuration.metrics"),
}


def job_code(config: Config, stage: str, job: dict[str, str]) -> tuple[str, ...]:
    """Names of the code (see `code_files`) of a job of `stage`; `job` is what its slice says of it."""
    module = stage
    if stage == "train_tokenizer" and is_imported(entry := config.tokenizers[job["tokenizer"]]):
        # How others are trained is none of an import's business.
        module = "models.imports" if has_checkpoint(entry) else "models.own_weights"
    names = (f"v2l.{module}", *SHOWN.get(stage, ()))
    return (*names, *(thing.implementation for thing in used_things(config, stage, job)))


def used_things(config: Config, stage: str, job: dict[str, str]) -> list[Declared]:
    """What a job uses of the things that an experiment can name."""
    things: list[Declared] = []
    if stage == "index_images":
        things.append(config.datasets[job["dataset"]])
    if stage in ("embed_images", "embed_vocabulary"):
        things.append(config.encoders[config.encoder])
    if stage in ("train_tokenizer", "extract_tokens", "reconstruct_images") and job["tokenizer"] in config.tokenizers:
        things.append(config.tokenizers[job["tokenizer"]])
    if stage == "extract_tokens":
        corruptions = [name for name in config.samples[job["sample"]].corruptions if name != "none"]
        things += [RESTORATION_TASKS[name] for name in corruptions]
        things += [config.encoders[config.encoder]] if corruptions else []
    if stage == "evaluate_llm":
        things += [getattr(config.evaluate_llm, job["task"]), *_of_task(config, job["task"])]
    if stage == "reconstruct_images":
        things += _of_task(config, _source(job).task)
    if stage == "make_figures":
        things.append(FIGURES[job["figure"]])
    if stage == "score_predictions":
        task = _source(job).task
        things.append(MEASURES[task])
        if task in ("captioning", "semantics"):
            things.append(config.encoders[config.encoder])
        if task in IMAGE_TASKS:
            things += [IMAGE_METRICS[name] for name in config.score_predictions.image_metrics]
    return things


def _source(job: dict[str, str]) -> Source:
    if "source" in job:
        return Source.parse(job["source"])
    return Source.of_run(job["task"], job["predictor"])


def _of_task(config: Config, task: str) -> list[Declared]:
    if task == "restoration":
        return [RESTORATION_TASKS[name] for name in config.evaluate_llm.restoration.tasks]
    return list(CELL_SETTINGS.values()) if task == "classification" else []
