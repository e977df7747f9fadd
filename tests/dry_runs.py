"""Dry runs of a project, many a minute: as a program, in the project's folder, this imports Snakemake once and forks.

Each line of standard input is a JSON list of arguments for `snakemake`; each line that comes back is a JSON object,
`rule output` -> whether the job would run, and the jobs that it waits for, or a text that says what went wrong.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class PlannedJob(NamedTuple):
    """Whether a job would run, and the names of those that it waits for."""

    runs: bool
    below: list[str]


Plan = dict[str, PlannedJob]
TARGETS = re.compile("all(_tables|_figures)? ")


class DryRuns:
    """The process that plans for one project, as a context manager."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __enter__(self) -> "DryRuns":
        environment = os.environ | {"PYTHONPATH": str(self._folder)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, __file__], cwd=self._folder, env=environment, **pipes)
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate()

    def plan(self, *arguments: str) -> Plan:
        """Every job of `snakemake -n all ARGUMENTS`."""
        return self.plan_command("-n", "all", *arguments)

    def plan_command(self, *arguments: str) -> Plan:
        """Every job of `snakemake ARGUMENTS`, which has to be a dry run."""
        answer = self.answer(*arguments)
        assert isinstance(answer, dict), answer
        return {name: PlannedJob(*job) for name, job in answer.items()}

    def answer(self, *arguments: str) -> dict | str:
        """The jobs of `snakemake ARGUMENTS` if it plans any, otherwise all that it says."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps(arguments), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def running(plan: Plan) -> set[str]:
    """The jobs of a plan that would run."""
    return {name for name, job in plan.items() if job.runs and not TARGETS.match(name)}


def below(plan: Plan, patterns: tuple[str, ...]) -> set[str]:
    """The jobs that fit one of the patterns, and all that wait for one of these."""
    found = {name for name in plan if any(re.match(pattern, name) for pattern in patterns)}
    while further := {name for name, job in plan.items() if name not in found and found & set(job.below)}:
        found |= further
    return {name for name in found if not TARGETS.match(name)}


def serve() -> None:
    """Answer until standard input ends."""
    import smart_open  # noqa: F401
    import snakemake.api  # noqa: F401
    import snakemake.dag

    import v2l.cluster.executor
    import v2l.pipeline.rule_params  # noqa: F401
    from v2l.pipeline.module_behaviour import PACKAGE, behaviour

    for path in PACKAGE.rglob("*.py"):
        behaviour(path)  # is remembered
    snakemake.dag.DAG.stats = _answer
    answers = os.dup(1)
    for line in sys.stdin:
        read, write = os.pipe()
        if not (child := os.fork()):
            _plan(json.loads(line), write)
        os.close(write)
        with open(read) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        os.write(answers, (json.dumps(json.loads(text)) + "\n").encode())


def _plan(arguments: list[str], pipe: int) -> None:
    from snakemake.cli import main

    global _pipe
    _pipe = pipe
    output = os.memfd_create("output")
    os.dup2(output, 1), os.dup2(output, 2)
    with contextlib.suppress(SystemExit):
        main(arguments)
    os.lseek(output, 0, os.SEEK_SET)
    text = os.read(output, 100_000).decode()
    nothing = "Nothing to be done" in text
    _say({} if nothing else text)


_pipe = -1


def _answer(dag) -> None:
    def name(job) -> str:
        return f"{job.rule.name} {job.output[0] if job.output else ''}"

    _say({name(job): [bool(dag.needrun(job)), sorted(map(name, dag.dependencies[job]))] for job in dag.jobs})


def _say(value: object) -> None:
    with open(_pipe, "w") as pipe:
        json.dump(value, pipe)
    os._exit(0)


if __name__ == "__main__":
    serve()
