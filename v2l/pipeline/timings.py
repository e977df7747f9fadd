"""Minutes and memory of each stage, summed from Snakemake's benchmark files."""

import csv
from pathlib import Path

from v2l.pipeline.stages import STAGES


def stage_minutes(logs: Path) -> str:
    """A line per stage with benchmarks under `logs`: jobs, minutes, largest memory of a job; '' without any."""
    totals = stage_totals(logs)
    lines = [
        f"  {stage:<20}{jobs:>4} jobs {seconds / 60:>7.1f} min {memory:>8.0f} MB"
        for stage, (jobs, seconds, memory) in totals.items()
    ]
    total = sum(seconds for _, seconds, _ in totals.values()) / 60
    return "\n".join([*lines, f"  {'sum':<20}{'':>9} {total:>7.1f} min"]) if lines else ""


def stage_totals(logs: Path) -> dict[str, tuple[int, float, float]]:
    """Stage -> jobs with benchmarks under `logs`, their seconds, and the largest memory of one in MB."""
    totals = {}
    for stage in STAGES:
        if rows := [_read(path) for path in sorted((logs / stage).rglob("*.benchmark.tsv"))]:
            # Snakemake writes "-" or "NA" for a job that ended before it was looked at.
            memory = max((float(row["max_rss"]) for row in rows if row["max_rss"] not in ("-", "NA")), default=0)
            totals[stage] = len(rows), sum(float(row["s"]) for row in rows), memory
    return totals


def _read(path: Path) -> dict[str, str]:
    with open(path, newline="") as file:
        return next(csv.DictReader(file, delimiter="\t"))
