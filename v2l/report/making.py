"""How each number was made: the records of all files, what they were made from, and what it took."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from v2l.pipeline.machines import machines
from v2l.pipeline.timings import stage_totals
from v2l.report.evidence import Evidence, anchor

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Record:
    """What made one file: `config` is JSON, `inputs`: name, path, SHA-256, place of the own record."""

    place: str
    path: str
    commit: str
    config: str
    inputs: list[tuple[str, str, str, str]]


@dataclass(frozen=True)
class Making:
    """Records by stage; `files` are path and SHA-256 of what no job of the experiment made, `costs`: stage, jobs,
    minutes, most memory of a job in MB, machines."""

    stages: list[tuple[str, list[Record]]]
    commits: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    files: list[tuple[str, str]]
    costs: list[tuple[str, int, str, str, str]]
    hours: str


def making(found: Iterable[Evidence], results: str, logs: Path) -> Making:
    """All about the files of a report: `results` is the folder of the experiment, `logs` that of its logs."""
    files = list({one.path: one for one in found}.values())
    places = {str(one.path): anchor("record", one.path) for one in files}
    stages: dict[str, list[Record]] = {}
    outside: dict[str, str] = {}
    for one in files:
        stages.setdefault(one.record["stage"], []).append(_record(one, places))
        for entries in one.record["inputs"].values():
            given = (entry for entry in entries if not entry["path"].startswith((f"{results}/", "v2l/")))
            outside |= {entry["path"]: entry["sha256"] for entry in given}
    totals = stage_totals(logs)
    return Making(
        stages=list(stages.items()),
        commits=[(name, commit_date(name)) for name in dict.fromkeys(one.record["commit"] for one in files)],
        versions=sorted({pair for one in files for pair in one.record["versions"].items()}),
        files=sorted(outside.items()),
        costs=[
            (name, jobs, f"{took / 60:.1f}", f"{memory:.0f}", "; ".join(machines(logs, name)) or "not recorded")
            for name, (jobs, took, memory) in totals.items()
        ],
        hours=f"{sum(took for _, took, _ in totals.values()) / 3600:.2f}",
    )


def commit_date(commit: str) -> str:
    """The day of a commit of this repository; '' for one that it does not know."""
    name = commit.removesuffix("-dirty")
    command = ["git", "-C", str(ROOT), "show", "-s", "--format=%cs", "--end-of-options", name]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _record(one: Evidence, places: dict[str, str]) -> Record:
    inputs = [
        (name, entry["path"], entry["sha256"], places.get(entry["path"], ""))
        for name, entries in one.record["inputs"].items()
        if name != "code"
        for entry in entries
    ]
    config = json.dumps(one.record["config"], indent=1, sort_keys=True, ensure_ascii=False)
    return Record(anchor("record", one.path), str(one.path), one.record["commit"], config, inputs)
