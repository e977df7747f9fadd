"""The source files that a job runs: an edit to one of them, and to no other, makes the job run again."""

import ast
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from v2l.configuration.registry import Declared

PACKAGE = Path(__file__).parents[1]
# Modules of `configuration` that hold declarations alone: a new key or thing must not rerun the jobs of the others.
DECLARATIONS = (
    *("baselines", "cell_settings", "config", "dataset_entries", "evaluation", "llm_finetuning", "measures"),
    *("metrics", "model_entries", "planning", "restoration_tasks", "tokenizer_entries", "tokenizer_training"),
)


def code_files(stage: str, things: Iterable[Declared] = ()) -> list[str]:
    """Paths of a stage's module, of the implementations of the `things` that a job uses, and of all that they import.

    What they import of this package counts, directly or not; modules that hold declarations alone do not.
    """
    left_out = {PACKAGE / "__init__.py", *(PACKAGE / "configuration" / f"{name}.py" for name in DECLARATIONS)}
    pending = [PACKAGE / f"{stage}.py", *map(source_of, things)]
    found: set[Path] = set()
    while pending:
        path = pending.pop()
        if path not in found and path not in left_out:
            found.add(path)
            pending += imported_files(path)
    return sorted(os.path.relpath(path) for path in found)


def source_of(thing: Declared) -> Path:
    """The file that a thing is implemented in, of this package or an extension."""
    module = thing.implementation.partition(":")[0]
    path = _in_package(module)
    return path if path else Path(str(sys.modules[module].__file__)).resolve()


@cache
def imported_files(path: Path) -> frozenset[Path]:
    """Files of this package that the module at `path` imports, at its top or inside its functions."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= set(filter(None, map(_in_package, names)))
    return frozenset(found)


def _in_package(module: str) -> Path | None:
    head, *parts = module.split(".")
    if head != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts)
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)
