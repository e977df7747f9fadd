"""Modules of the user's own, named by `extensions` of an experiment, that add things to the registries."""

import importlib.util
import inspect
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from v2l.configuration.registry import Registry, implementation_of
from v2l.errors import UserError

VARIABLE = "V2L_EXTENSIONS"  # how jobs learn of the modules: their paths, separated as in PATH


def load_extensions(paths: Sequence[str]) -> None:
    """Import the Python files at `paths`, each once, as modules named by their path (`my/task.py`: `my.task`).

    Raises UserError, naming the file, for one that is missing, is called like another module or cannot be imported.
    """
    for text in paths:
        path = Path(text)
        name = ".".join(part for part in path.with_suffix("").parts if part not in (os.sep, "."))
        if not path.is_file() or path.suffix != ".py":
            raise _unusable(text, "there is no such Python file", "a path from the project's folder")
        if (known := _known_file(name)) and known.resolve() != path.resolve():
            raise _unusable(text, f"{known} is module `{name}` already", "a name, or a folder, of its own")
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            cause = error.problem if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            problem = f"it cannot be imported ({cause})"
            raise _unusable(text, problem, "a module that can be imported") from None


def _known_file(name: str) -> Path | None:
    """The file of the module `name` that is imported, or that could be if it lies in no package; else None."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file or f"built-in {name}")
    spec = importlib.util.find_spec(name) if "." not in name else None
    return Path(spec.origin) if spec and spec.origin else None


def inherited() -> list[str]:
    """Paths of the extensions of the run that a job belongs to."""
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def load_inherited() -> None:
    """Import the extensions of the run that a job belongs to."""
    load_extensions(inherited())


def check_added(registries: Sequence[Registry]) -> None:
    """Raise UserError for an implementation of an extension that is not there, or lacks a method."""
    for registry in registries:
        for name, thing in registry.added.items():
            what, source = f"the {registry.kind} {name!r}", str(getattr(thing, "implementation", ""))
            try:
                found = implementation_of(thing)
            except (ImportError, AttributeError, ValueError):
                place = _file_of(thing, source) or f"that adds {what}"
                problem = f"{what} has its implementation nowhere: {source or 'it names none'}"
                raise _unusable(place, problem, "`implementation` to be `module:name`") from None
            if registry.base and (lacking := _lacking(found, registry.base)):
                problem = f"class {getattr(found, '__name__', source)} of {what} lacks {', '.join(lacking)}"
                raise _unusable(_file_of(found, source) or source, problem, f"every method of {registry.base}")


def _lacking(found: Any, base: str) -> list[str]:
    """Abstract methods of class `base` (`module:Class`) that `found` does not have."""
    module, _, name = base.partition(":")
    wanted = getattr(import_module(module), name)
    if not inspect.isclass(found) or not issubclass(found, wanted):
        return [f"its base class {name}"]
    return sorted(getattr(found, "__abstractmethods__", ()))


def _file_of(found: Any, source: str) -> str | None:
    """The file of a class or function, of anything else that of `source` (`module:name`); None if it has none."""
    module = found.__module__ if hasattr(found, "__qualname__") else source.partition(":")[0]
    return getattr(sys.modules.get(module), "__file__", None)


def _unusable(path: str, problem: str, expected: str) -> UserError:
    if not (below := os.path.relpath(path)).startswith(os.pardir):
        path = below  # as the experiment names it
    return UserError(f"extension {path}: {problem}", expected, "mend the file, or take it out of `extensions`")
