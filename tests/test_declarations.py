"""Modules whose edits rerun only what shows them hold declarations alone: a new thing reruns no job of the others."""

import ast

import pytest

from v2l.pipeline.code_files import DECLARATIONS, PACKAGE

VALIDATORS = {"field_validator", "model_validator"}


def is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_validator(node: ast.stmt) -> bool:
    calls = [mark.func for mark in getattr(node, "decorator_list", []) if isinstance(mark, ast.Call)]
    return isinstance(node, ast.FunctionDef) and any(getattr(call, "id", "") in VALIDATORS for call in calls)


def declares(node: ast.stmt) -> bool:
    """Whether a statement of a class says what it holds: a field, its settings or what a value must be."""
    settings = isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets]
    return isinstance(node, ast.AnnAssign) or is_text(node) or is_validator(node) or settings == ["model_config"]


def behaviour(source: str) -> list[str]:
    """What a module holds besides declarations: the name of a function, the first line of anything else."""
    found: list[ast.stmt] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found += [statement for statement in node.body if not declares(statement)]
        elif not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign) and not is_text(node):
            found.append(node)
    return [getattr(node, "name", ast.unparse(node).splitlines()[0]) for node in found]


@pytest.mark.parametrize("name", DECLARATIONS)
def test_module_that_triggers_no_job_holds_declarations_alone(name):
    text = (PACKAGE / "configuration" / f"{name}.py").read_text()
    assert behaviour(text) == [], "move it to a module whose edits rerun the jobs that use it"


def test_behaviour_is_found():
    source = '''
"""A module."""
from dataclasses import dataclass

SIDE = lambda network: network.size


class Network:
    """Sizes."""

    model_config = {}
    size: int = 1
    halved = 2

    @property
    def half(self):
        return self.size // 2

    @field_validator("size")
    @classmethod
    def _positive(cls, value):
        return value


def area(network):
    return network.size ** 2


for name in "ab":
    print(name)
'''
    assert behaviour(source) == ["halved = 2", "half", "area", "for name in 'ab':"]
