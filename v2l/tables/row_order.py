"""The order of a table's rows: the paper's methods, each with its baselines, then cells, tasks and metrics."""

import re
from collections.abc import Sequence
from typing import Any

from v2l.configuration.baselines import BASELINES
from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.configuration.sources import PAPER
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS


def sort_key(row: dict[str, Any], metrics: Sequence[str]) -> tuple:
    """Baselines stand below their tokenizer's rows, then come the paper's cells, and `metrics` in their order last."""
    tokenizer = row["tokenizer"] if "tokenizer" in row else row["method"]
    task = row.get("task")
    return (
        tokenizer is None,
        _rank(tokenizer),
        _rank(row["method"]),
        _natural(row.get("llm")),
        row["protocol"] != PAPER,
        row["protocol"],
        *(row.get(name) or 0 for name in ("vocabulary_size", "global_tokens", "tokens", "ways")),
        *((row.get(name) is not None, row.get(name)) for name in CELL_SETTINGS),
        *(row.get(name) or 0 for name in ("induction", "repeats", "inner_shots")),
        task_rank(task),
        task or "",
        metrics.index(row["metric"]),
    )


def task_rank(task: str | None) -> int:
    """Restoration tasks are in the order of table 4, before everything else."""
    names = list(RESTORATION_TASKS)
    return names.index(task) if task in names else len(names)


def _rank(name: str | None) -> tuple[int, int, str]:
    """Tokenizer methods, then names that only the experiment knows, then baselines."""
    for place, names in ((0, list(TOKENIZER_METHODS)), (2, list(BASELINES))):
        if name in names:
            return place, names.index(name), ""
    return 1, 0, name or ""


def _natural(name: str | None) -> list[tuple[int, str]]:
    """Sorts `llama-2-7b` before `llama-2-13b`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name or "")]
