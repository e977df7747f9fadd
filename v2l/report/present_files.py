"""Which files of an experiment the report is made of: those that are there now."""

import os
from collections.abc import Iterable
from pathlib import Path

from v2l.configuration.config import Config
from v2l.configuration.runs import IMAGE_TASKS
from v2l.pipeline import selections

# Whose pictures the gallery shows, those with most to show first.
SHOWN_SAMPLES = ("restoration", "masked", "reconstruction", "semantics")
TEMPLATES = Path(__file__).parent / "templates"


def present_files(config: Config, results: str) -> dict[str, list[str]]:
    """Input name -> paths below the folder `results` that are there, in the order of the tables.

    A report is made of what an experiment has; that the rest is missing it says itself.
    """
    tokenizers = config.train_tokenizer.tokenizers
    runs = selections.shown_runs(config)
    tuned = [
        f"{name}/{llm}" for name in config.evaluate_llm.masked.tokenizers for llm in config.evaluate_llm.masked.llms
    ]
    wanted = {
        "tables": [f"make_tables/{name}.csv" for name in selections.tables(config)],
        "figures": [f"make_figures/{name}.png" for name in selections.figures(config)],
        "scores": [f"score_predictions/{run}.json" for run in runs],
        "item_scores": [f"score_predictions/{run}.parquet" for run in runs],
        "predictions": [
            f"evaluate_llm/{run.tokenizer}/{run.source.run}/{run.source.task}.parquet"
            for run in runs
            if run.source.is_predicted
        ],
        "images": [f"reconstruct_images/{run}.parquet" for run in runs if run.source.task in IMAGE_TASKS],
        "tokens": [f"extract_tokens/{name}/{sample}.parquet" for name in tokenizers for sample in SHOWN_SAMPLES],
        "words": [f"train_tokenizer/{name}.words.parquet" for name in tokenizers],
        "vocabulary": ["expand_vocabulary/vocabulary.parquet"],
        "manifests": [f"index_images/{name}.parquet" for name in selections.used_datasets(config)],
        "trainings": [
            *(f"train_tokenizer/{name}.metrics.jsonl" for name in tokenizers),
            *(f"finetune_llm/{name}/metrics.jsonl" for name in tuned),
        ],
    }
    return {name: _there(f"{results}/{path}" for path in paths) for name, paths in wanted.items()}


def template_files() -> list[str]:
    """The page's templates, style and script, by path from the working directory."""
    return sorted(os.path.relpath(path) for path in TEMPLATES.iterdir() if path.is_file())


def _there(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path for path in paths if Path(path).is_file()))
