"""Minutes and memory of each stage, summed from Snakemake's benchmark files."""

import csv
from pathlib import Path

from v2l.pipeline.stages import STAGES


def stage_minutes(logs: Path) -> str:
    """A line per stage with benchmarks under `logs`: jobs, minutes, largest memory of a job; '' without any."""
    lines, total = [], 0.0
    for stage in STAGES:
        rows = [_read(path) for path in sorted((logs / stage).rglob("*.benchmark.tsv"))]
        if rows:
            minutes = sum(float(row["s"]) for row in rows) / 60
            # Snakemake writes "-" or "NA" for a job that ended before it was looked at.
            memory = max((float(row["max_rss"]) for row in rows if row["max_rss"] not in ("-", "NA")), default=0)
            total += minutes
            lines.append(f"  {stage:<20}{len(rows):>4} jobs {minutes:>7.1f} min {memory:>8.0f} MB")
    return "\n".join([*lines, f"  {'sum':<20}{'':>9} {total:>7.1f} min"]) if lines else ""


def _read(path: Path) -> dict[str, str]:
    with open(path, newline="") as file:
        return next(csv.DictReader(file, delimiter="\t"))
