"""The tables of the paper, each by the name of its files."""

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.config import Config
from v2l.configuration.metrics import IMAGE_METRICS, SET_METRICS
from v2l.configuration.registry import Registry
from v2l.configuration.runs import (
    CORRUPTED_INPUT,
    MEAN_IMAGE,
    TEXT_TASKS,
    Run,
    masked_runs,
    reconstructions,
    restorations,
    task_runs,
    with_words,
)
from v2l.tables.specification import Table


def _restored(config: Config) -> list[Run]:
    """Restorations between their bounds, and masked restoration (figure 8)."""
    masked = [run for name in config.evaluate_llm.masked.tokenizers for run in masked_runs(config, name)]
    bounds = [*restorations(config, ["tokenizer-oracle"]), CORRUPTED_INPUT]
    return [*task_runs(config, "restoration"), *bounds, *masked]


CLASSIFICATION = Table(
    name="table1_classification",
    title="Table 1. Few-shot classification accuracy",
    runs=lambda config: task_runs(config, "classification"),
    keys=("method", "tokenizer", "llm", "tokens", "ways", "induction", "inner_shots", "repeats"),
    further_keys=CELL_SETTINGS,
    metrics=("accuracy",),
    across=("induction", "inner_shots", "repeats"),
    block="ways",
    paper_columns=(
        *((False, 1, 0), (True, 1, 0), (True, 3, 0), (True, 5, 0)),
        *((True, 1, 1), (True, 1, 3), (True, 1, 5)),
    ),
    items="episodes",
)
SEMANTICS = Table(
    name="table2_semantics",
    title="Table 2. Semantic quality of the global tokens",
    runs=with_words,
    keys=("method", "vocabulary_size", "tokens"),
    metrics=("clip_score", "clip_r"),
)
RECONSTRUCTION = Table(
    name="table3_reconstruction",
    title="Table 3. Image reconstruction",
    runs=lambda config: [*reconstructions(config), MEAN_IMAGE],
    keys=("method", "global_tokens"),
    metrics=tuple(SET_METRICS),
    further_metrics=IMAGE_METRICS,
)
RESTORATION = Table(
    name="table4_restoration",
    title="Table 4. Image denoising",
    runs=_restored,
    keys=("method", "tokenizer", "llm", "task"),
    metrics=tuple(SET_METRICS),
    further_metrics=IMAGE_METRICS,
    without=("ssim",),
    block="task",
)
ANSWERS_IN_TEXT = Table(
    name="table5_captioning_vqa",
    title="Table 5. Image captioning and visual question answering",
    runs=lambda config: [run for task in TEXT_TASKS for run in task_runs(config, task)],
    keys=("method", "tokenizer", "llm", "task"),
    metrics=("vqa_accuracy", "cider", "clip_score", "bleu_4"),
    implied=("task",),
    items="captions or questions",
)

TABLES: Registry[Table] = Registry(
    "table",
    {table.name: table for table in (CLASSIFICATION, SEMANTICS, RECONSTRUCTION, RESTORATION, ANSWERS_IN_TEXT)},
)
