"""`pip install .`: what the wheel holds, and which packages it says that it needs."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from v2l.pipeline.code_files import imported_files

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIBRARY = [*sorted((ROOT / "v2l/library").glob("*.py")), ROOT / "v2l/tokenize.py"]
DATA = {path for path in (ROOT / "v2l").rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The unpacked wheel, built offline from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT / "v2l", source / "v2l", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    result = subprocess.run([*command, "-w", str(folder), str(source)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(next(folder.glob("v2l-*.whl"))) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_holds_every_module_and_file_of_the_package(wheel):
    assert {path.relative_to(wheel) for path in (wheel / "v2l").rglob("*") if path.is_file()} == {
        path.relative_to(ROOT) for path in DATA
    }
    assert (wheel / "v2l/py.typed").is_file() and next(wheel.glob("*.dist-info/licenses/LICENSE"))


def test_the_library_is_imported_from_the_wheel_alone(wheel, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import v2l; from v2l import V2LTokenizer; "
        "from v2l.library import model_card; from importlib.resources import files; "
        "assert files('v2l.library').joinpath('model_card.md').is_file(); print(v2l.__file__, V2LTokenizer.__name__)"
    )
    command = [sys.executable, "-P", "-c", code, str(wheel)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": ""})
    assert result.stdout.split() == [str(wheel / "v2l/__init__.py"), "V2LTokenizer"], result.stderr


def test_the_wheel_asks_for_no_one_version(wheel):
    metadata = next(wheel.glob("*.dist-info/METADATA")).read_text()
    wanted = [Requirement(line) for line in re.findall(r"^Requires-Dist: (.+)$", metadata, re.MULTILINE)]
    assert {item.name for item in wanted} >= {"torch", "snakemake", "submitit", "tensorboard", "wandb"}
    operators = {part.operator for item in wanted for part in item.specifier}
    assert operators == {">="}
    assert set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE)) == {
        *("pipeline", "cluster", "report", "tracking")
    }


def imported(paths: list[Path]) -> set[str]:
    """Top-level names that modules and all that they import of this package import, at their top or in functions."""
    pending, found, seen = list(paths), set(), set()
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        pending += imported_files(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - {"v2l"} - sys.stdlib_module_names


def names_of(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def distributions(modules: set[str]) -> set[str]:
    owners = packages_distributions()
    return {canonicalize_name(owners[name][0]) for name in modules}


FROM_OTHERS = {"triton", "pydantic-core", "httpx2"}  # torch, pydantic and huggingface_hub bring them


def test_what_the_library_imports_is_what_it_asks_for():
    needed = distributions(imported(LIBRARY)) - FROM_OTHERS
    asked = names_of(PROJECT["dependencies"])
    assert needed - {"peft"} <= asked, "add it to `dependencies` of pyproject.toml"  # peft: adapters, of the pipeline


def test_what_the_pipeline_imports_is_in_its_extras():
    modules = imported([path for path in DATA if path.suffix == ".py"])
    extras = PROJECT["optional-dependencies"]
    asked = names_of([*PROJECT["dependencies"], *(text for name in extras for text in extras[name])])
    optional = {"tensorboard", "wandb"}
    plugins = {name for name in distributions(modules - optional) if name.startswith("snakemake-interface-")}
    assert distributions(modules - optional) - FROM_OTHERS - plugins <= asked


def test_lower_bounds_are_met_by_the_lock():
    locked = dict(
        re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    locked = {canonicalize_name(name): Version(version) for name, version in locked.items()}
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *(text for name in extras for text in extras[name])]:
        item = Requirement(text)
        if (version := locked.get(canonicalize_name(item.name))) is not None:
            assert item.specifier.contains(version), text
        else:
            assert item.name in ("v2l", "tensorboard", "wandb"), f"{item.name} is not locked"
