"""Rooms: who may import whom, how big a module gets, and that no name is given twice."""

import ast
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from v2l.pipeline.code_files import imported_files
from v2l.pipeline.stages import STAGES

PACKAGE = Path("v2l").resolve()
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
# From the ground up: a room imports what stands in rows below its own, never what stands beside or above it.
FLOORS = [
    {"errors"},
    {"gpu_support", "memory_errors"},
    {"runtime"},
    {"precision", "memory_errors"},
    {"io"},
    {"configuration"},
    {"data"},
    {"encoders", "models", "llm"},
    {"tasks"},
    {"training", "metrics"},
    {"tables", "figures", "assets", "library"},
    {"pipeline"},
    {"cluster", "plan", "report"},
    {*STAGES, "tokenize"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room(path: Path) -> str:
    """The package that a module lies in, or the name of one that lies in `v2l` itself."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    return {room(found) for found in imported_files(path) if found != PACKAGE / "__init__.py"} - {room(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path):
    above = {found for found in imports_of(path) if FLOOR[found] >= FLOOR[room(path)]}
    assert not above, f"{room(path)} stands below or beside {sorted(above)}"


def test_packages_import_each_other_without_a_cycle():
    graph = defaultdict(set)
    for path in MODULES:
        graph[room(path)] |= imports_of(path)

    def cycle(way: list[str]) -> list[str]:
        for following in graph[way[-1]]:
            if following in way:
                return [*way[way.index(following) :], following]
            if found := cycle([*way, following]):
                return found
        return []

    assert [found for start in graph if (found := cycle([start]))] == []


def test_every_package_says_what_it_is_for():
    for path in PACKAGE.rglob("__init__.py"):
        assert path.parent == PACKAGE or ast.get_docstring(ast.parse(path.read_text())), path


def test_no_two_modules_and_no_two_classes_have_one_name():
    names = defaultdict(list)
    for path in MODULES:
        names[path.stem].append(path)
        classes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
        for node in classes:
            names[node.name].append(path)
    assert {name: paths for name, paths in names.items() if len(paths) > 1} == {}


def test_modules_stay_small():
    lines = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert median(lines.values()) <= 110 and max(lines.values()) <= 300
    assert len(list(PACKAGE.glob("*.py"))) <= 23


def test_floors_name_every_room():
    assert {room(path) for path in MODULES} == set(FLOOR)
    assert all(not low & high for low, high in pairwise(FLOORS))
