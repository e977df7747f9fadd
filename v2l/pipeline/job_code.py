"""Which things each job uses, and so which code: the sample's corruptions, the task, the tokenizer, the metrics."""

from collections.abc import Callable
from typing import Any

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.config import Config
from v2l.configuration.measures import MEASURES
from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.registry import Declared
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.sources import Source
from v2l.figures.figures import FIGURES
from v2l.pipeline.code_files import code_files


def job_code(config: Config, stage: str, **fixed: str) -> Callable[[Any], list[str]]:
    """An input function: the source files of a job of `stage` with its wildcards; `fixed` are those its rule sets."""
    return lambda wildcards: code_files(stage, used_things(config, stage, fixed | dict(wildcards.items())))


def used_things(config: Config, stage: str, values: dict[str, str]) -> list[Declared]:
    """What a job uses, by its wildcards, of the things that an experiment can name."""
    things: list[Declared] = []
    if stage == "index_images":
        things.append(config.datasets[values["dataset"]])
    if stage in ("embed_images", "embed_vocabulary"):
        things.append(config.encoders[config.encoder])
    if (
        stage in ("models/imports", "models/own_weights", "extract_tokens", "reconstruct_images")
        and "tokenizer" in values
    ):
        things.append(config.tokenizers[values["tokenizer"]])
    if stage == "extract_tokens":
        corruptions = [name for name in config.samples[values["sample"]].corruptions if name != "none"]
        things += [RESTORATION_TASKS[name] for name in corruptions]
        things += [config.encoders[config.encoder]] if corruptions else []
    if stage == "evaluate_llm":
        things += [getattr(config.evaluate_llm, values["task"]), *_of_task(config, values["task"])]
    if stage == "reconstruct_images":
        things += _of_task(config, _source(values).task)
    if stage == "make_figures":
        things.append(FIGURES[values["figure"]])
    if stage == "score_predictions":
        task = _source(values).task
        things.append(MEASURES[task])
        if task in ("captioning", "semantics"):
            things.append(config.encoders[config.encoder])
        if task in ("reconstruction", "restoration", "masked"):
            things += [IMAGE_METRICS[name] for name in config.score_predictions.image_metrics]
    return things


def _source(values: dict[str, str]) -> Source:
    if "source" in values:
        return Source.parse(values["source"])
    return Source.of_run(values["task"], values["predictor"])


def _of_task(config: Config, task: str) -> list[Declared]:
    if task == "restoration":
        return [RESTORATION_TASKS[name] for name in config.evaluate_llm.restoration.tasks]
    return list(CELL_SETTINGS.values()) if task == "classification" else []
