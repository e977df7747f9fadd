"""A whole run of the tiny experiment, built once and shared by the tests that look at it."""

import fcntl
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from xdist.scheduler import LoadFileScheduling

from tests import tiny
from tests.dry_runs import DryRuns, Plan, running
from v2l.configuration.experiment import EXTENSIBLE

ROOT = Path(__file__).parents[1]
OFFLINE = ROOT / "tests" / "offline"
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Scheduling(LoadFileScheduling):
    """Of tests that run side by side, those of one file share a process, and so do all that look at the same run.

    Faults that are tried often do not: each goes to the process that is free.
    """

    def _split_scope(self, nodeid: str) -> str:
        if is_thorough(self.config):
            return nodeid
        name = nodeid.split("::", 1)[0]
        text = (ROOT / name).read_text()
        return next((run for run in ("tiny_run", "dry_runs") if run in text), name)


def is_thorough(config) -> bool:
    """Whether the faults are what was asked for, and not a part of the whole suite."""
    return "faults" in config.option.markexpr and "not faults" not in config.option.markexpr


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    """Whole runs take longest: they begin first."""
    items.sort(key=lambda item: not item.get_closest_marker("pipeline"))


class Project:
    """A copy of the project in a folder of its own, to run Snakemake in."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copy(ROOT / "environment.yml", folder)
        for name in ("v2l", "workflow", "config", "slurm"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))

    def copy(self, folder: Path) -> "Project":
        """The project with its results and Snakemake's memory of them, in a new folder."""
        copied = object.__new__(Project)
        copied.folder = folder / "copy"
        shutil.copytree(self.folder, copied.folder, symlinks=True)
        return copied

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run `snakemake ARGUMENTS` for the tiny experiment, jobs side by side; both output streams as `stdout`."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--max-threads", "1"]
        if not any(argument.startswith("experiment=") for argument in arguments):
            command += ["--config", "experiment=tiny"]
        kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 2400}
        return subprocess.run(command, cwd=self.folder, env=os.environ | environment, **kwargs)

    def touch_all(self, target: str = "all") -> None:
        """Make every output of `target` an empty file, and let Snakemake take it for made from the present inputs."""
        planned = self.snakemake("-n", target)
        assert planned.returncode == 0, planned.stdout
        for line in re.findall(r"^Reason: Missing output files: ([^;\n]+)", planned.stdout, re.MULTILINE):
            for name in line.split(", "):
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        touched = self.snakemake("--touch", "--forceall", target)
        assert touched.returncode == 0, touched.stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Rule -> number of jobs that a run would start."""
        result = self.snakemake("-n", *arguments)
        assert result.returncode == 0, result.stdout
        counts: dict[str, int] = {}
        lines = iter(result.stdout.splitlines())
        for line in lines:
            if line.startswith("Job stats:"):
                next(lines), next(lines)
                for row in lines:
                    if not row.strip() or row.startswith("total"):
                        break
                    rule, count = row.split()[:2]
                    counts[rule] = int(count)
                break
        return {rule: count for rule, count in counts.items() if rule not in ("all", "all_tables", "all_figures")}


Made = TypeVar("Made")


@pytest.fixture(scope="session")
def made_once(pytestconfig, tmp_path_factory, worker_id) -> Callable[[str, Callable[[], Made]], Made]:
    """`made_once(name, make)` is what `make` returns, for all processes that try faults side by side."""
    own = tmp_path_factory.getbasetemp()
    base = own.parent if is_thorough(pytestconfig) and worker_id != "master" else own

    def once(name: str, make: Callable[[], Made]) -> Made:
        kept = base / f"{name}.pickle"
        with open(f"{kept}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_bytes(pickle.dumps(make()))
            return pickle.loads(kept.read_bytes())

    return once


@pytest.fixture(scope="session")
def tiny_folder(made_once, tmp_path_factory) -> Path:
    """The tiny experiment's models and pictures."""
    return made_once("tiny", lambda: tiny.build(tmp_path_factory.mktemp("assets")))


@pytest.fixture(scope="session")
def new_project(tmp_path_factory, tiny_folder) -> Callable[[], Project]:
    """Makes fresh copies of the project that share the tiny models and pictures."""

    def make() -> Project:
        project = Project(tmp_path_factory.mktemp("project"))
        (project.folder / "tiny").symlink_to(tiny_folder)
        return project

    return make


@pytest.fixture(scope="session")
def tiny_run(new_project, made_once) -> Project:
    """The project after `snakemake all` of the tiny experiment, with every connection to the outside refused."""

    def run() -> Project:
        project = new_project()
        project.log = project.snakemake("all", PYTHONPATH=str(OFFLINE))
        assert project.log.returncode == 0, project.log.stdout[-6000:]
        return project

    return made_once("tiny-run", run)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project with files of its own that Snakemake takes for finished; its results are empty."""
    project = Project(tmp_path_factory.mktemp("finished"))
    tiny.build(project.folder)
    project.touch_all()
    return project


@pytest.fixture(scope="session")
def dry_runs(finished) -> Iterator[DryRuns]:
    """Dry runs of the finished project."""
    with DryRuns(finished.folder) as runs:
        yield runs


@pytest.fixture(scope="module")
def unstarted(tmp_path_factory) -> Iterator[DryRuns]:
    """Dry runs of a project that has its downloads and no results."""
    project = Project(tmp_path_factory.mktemp("unstarted"))
    for name in ("assets", "weights"):
        (project.folder / name).symlink_to(ROOT / name)
    with DryRuns(project.folder) as runs:
        yield runs


@pytest.fixture(scope="session")
def whole(dry_runs) -> Plan:
    """Every job of the finished project."""
    plan = dry_runs.plan("--forceall", "--config", "experiment=tiny")
    assert len(running(plan)) > 150
    return plan


@pytest.fixture
def registries(monkeypatch, tmp_path_factory) -> Iterator[None]:
    """What a test adds to the registries, and the modules of its extensions, are gone after it."""
    for registry in EXTENSIBLE:
        monkeypatch.setattr(registry, "_things", dict(registry))
        monkeypatch.setattr(registry, "_added", registry.added)
    before, folders = set(sys.modules), (ROOT / "tests/extending", tmp_path_factory.getbasetemp())
    yield
    for name in set(sys.modules) - before:
        path = Path(getattr(sys.modules[name], "__file__", None) or os.sep)
        if any(path.is_relative_to(folder) for folder in folders):
            del sys.modules[name]


@pytest.fixture
def interrupt(monkeypatch) -> Callable[[type], list[int]]:
    """`interrupt(trainer class)` makes its step 5 fail once; returns the list of all steps that are begun."""

    def patch(trainer: type) -> list[int]:
        original, begun = trainer.step, []

        def step(self, number, *batch):
            begun.append(number)
            if number == 5 and begun.count(5) == 1:
                raise InterruptedError
            return original(self, number, *batch)

        monkeypatch.setattr(trainer, "step", step)
        return begun

    return patch
