"""As a program, in a project's folder: the jobs of a Snakemake run in their order, as a JSON list on standard output.

Arguments are those of `snakemake`, without `-n`. Each job is `{"rule", "command", "inputs", "outputs", "log"}`, with
the shell command that Snakemake would run.
"""

import contextlib
import json
import os
import sys

from snakemake.cli import main
from snakemake.dag import DAG


def list_jobs(dag) -> None:
    """Takes the place of the statistics of a dry run: prints the jobs and ends the program."""
    ordered: list = []
    seen: set = set()

    def visit(job) -> None:
        if job not in seen:
            seen.add(job)
            for below in sorted(dag.dependencies[job], key=lambda job: str(job.output)):
                visit(below)
            ordered.append(job)

    for job in sorted(dag.jobs, key=lambda job: str(job.output)):
        visit(job)
    listed = [
        {
            "rule": job.rule.name,
            "command": job.shellcmd,
            "inputs": sorted(map(str, job.input)),
            "outputs": sorted(map(str, job.output)),
            "log": str(job.log[0]) if job.log else None,
        }
        for job in ordered
        if job.output
    ]
    os.write(_answers, json.dumps(listed).encode())
    os._exit(0)


if __name__ == "__main__":
    _answers = os.dup(1)
    os.dup2(2, 1)
    DAG.stats = list_jobs
    with contextlib.suppress(SystemExit):
        main(["-n", *sys.argv[1:]])
    sys.exit("no jobs were listed")
