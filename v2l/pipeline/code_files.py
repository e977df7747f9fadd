"""The code that a job runs: an edit of what it does, and of nothing else, makes the job run again.

A job's code is named by `module` or `module:name`: its stage's module and the implementations of the things that it
uses. What these import of this package counts, directly or not; modules that hold declarations alone only if named.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from v2l.io.canonical import canonical_json
from v2l.pipeline.module_behaviour import PACKAGE, behaviour, file_of, keep_behaviours

# Modules of `configuration` that hold declarations alone: a new key or thing must not rerun the jobs of the others.
DECLARATIONS = (
    *("baselines", "cell_settings", "config", "dataset_entries", "evaluation", "llm_finetuning", "measures"),
    *("metrics", "model_entries", "planning", "restoration_tasks", "tokenizer_entries", "tokenizer_training"),
)


class Code(NamedTuple):
    """`digest` tells one behaviour of a job from any other; `modules` says for messages what each file does itself."""

    digest: str
    modules: dict[str, str]


@cache
def code_of(names: tuple[str, ...]) -> Code:
    """What a job with the code `names` does: the same whatever modules are called and however they are written.

    An edit counts for processes that begin after it.
    """
    modules = {path: _with_imports(path) for path in _files(names)}
    used = [[modules[source_of(name)], name.partition(":")[2]] for name in names]
    text = canonical_json([used, sorted(modules.values())])
    keep_behaviours()
    shown = {os.path.relpath(path, PACKAGE.parent): behaviour(path).digest[:16] for path in modules}
    return Code(hashlib.sha256(text.encode()).hexdigest(), dict(sorted(shown.items())))


def code_files(names: Iterable[str]) -> list[str]:
    """Paths of the files that a job with the code `names` depends on."""
    return sorted(os.path.relpath(path) for path in _files(names))


def source_of(name: str) -> Path:
    """The file of `module` or `module:name`, of this package or an extension that is imported."""
    module = name.partition(":")[0]
    return file_of(module) or Path(str(sys.modules[module].__file__)).resolve()


@cache
def imported_files(path: Path) -> frozenset[Path]:
    """Files of this package that the module at `path` imports, at its top or inside its functions."""
    return frozenset(file for item in behaviour(path).imports for file in item.files)


def _files(names: Iterable[str]) -> set[Path]:
    pending, found = list(map(source_of, names)), set[Path]()
    while pending:
        if (path := pending.pop()) not in found:
            found.add(path)
            pending += (file for file in imported_files(path) if not _declares(file))
    return found


def _declares(path: Path) -> bool:
    folder = PACKAGE / "configuration"
    return path == PACKAGE / "__init__.py" or (path.parent == folder and path.stem in DECLARATIONS)


@cache
def _with_imports(path: Path) -> str:
    """Digest of a module and of what stands behind the names that it imports, in any order."""
    found = behaviour(path)
    names = sorted([item.name, item.known_as, *_digests(item.files)] for item in found.imports)
    return hashlib.sha256(canonical_json([found.digest, names]).encode()).hexdigest()


def _digests(files: list[Path]) -> Iterator[str]:
    return (behaviour(path).digest for path in files if not _declares(path))
