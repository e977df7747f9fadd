"""A project that Snakemake takes for finished: its results are empty files, so dry runs tell what an edit reruns."""

import re
from pathlib import Path

from tests.conftest import Project


def touch_all(project: Project, target: str = "all") -> None:
    """Make every output of `target` an empty file and let Snakemake record it as made with the present inputs."""
    planned = project.snakemake("-n", target)
    assert planned.returncode == 0, planned.stdout
    for line in re.findall(r"^Reason: Missing output files: ([^;\n]+)", planned.stdout, re.MULTILINE):
        for name in line.split(", "):
            path: Path = project.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    touched = project.snakemake("--touch", "--forceall", target)
    assert touched.returncode == 0, touched.stdout
