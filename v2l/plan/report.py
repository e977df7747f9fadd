"""The plan as a text for the terminal and as JSON."""

from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

from v2l.configuration.cards import Machine
from v2l.pipeline.stages import STAGES
from v2l.plan.estimates import Estimate
from v2l.plan.workload import Workload

DASH = "-"
MARKS = (
    "!: does not fit the machine as configured; its time counts all the same",
    "card-h: hours of one card, all together",
)
Row = tuple[Workload, list[Estimate]]  # an estimate for each machine


def plan_text(title: str, rows: Sequence[Row], machines: Sequence[Machine], cautions: Sequence[str]) -> str:
    """A table of all rows, the sums of each stage, and the remarks."""
    heads = ["stage", "work", "items", "PFLOP", "GB read", "GB written"]
    for machine in machines:
        heads += [str(machine), "card-h", "GB a job"]
    body, stage = [], ""
    for work, estimates in rows:
        line = ["" if work.stage == stage else work.stage, work.what, f"{number(work.items)} {work.unit}"]
        line += [petaflop(work.flops), gigabytes(work.bytes_read), gigabytes(work.bytes_written)]
        for found in estimates:
            line += [taken(found), hours(found.card_hours), held(found)]
        body.append(line)
        stage = work.stage
    total = ["sum", "", "", petaflop(sum(work.flops for work, _ in rows))]
    total += [gigabytes(sum(getattr(work, key) for work, _ in rows)) for key in ("bytes_read", "bytes_written")]
    for place in range(len(machines)):
        column = [estimates[place] for _, estimates in rows]
        total += [
            duration(_sum(item.wall_hours for item in column)),
            hours(_sum(item.card_hours for item in column)),
            "",
        ]
    aligned = ["left", "left"] + ["right"] * (len(heads) - 2)
    table = tabulate([*body, total], heads, tablefmt="simple", colalign=aligned, disable_numparse=True)
    remarks = dict.fromkeys(
        [*cautions, *(text for _, estimates in rows for found in estimates for text in found.remarks)]
    )
    notes = "\n".join(f"- {remark}" for remark in [*remarks, *MARKS])
    return f"{title}\n\n{table}\n\n{notes}\n"


def plan_data(rows: Sequence[Row], machines: Sequence[Machine]) -> list[dict[str, Any]]:
    """The rows as plain JSON, numbers in FLOP, bytes and hours."""
    found = []
    for work, estimates in rows:
        values = work._asdict() | {"memory": None if work.memory is None else work.memory._asdict()}
        pairs = zip(machines, estimates, strict=True)
        found.append(values | {"machines": {str(machine): item._asdict() for machine, item in pairs}})
    return found


def stage_hours(rows: Sequence[Row], place: int) -> dict[str, float | None]:
    """Stage -> card-hours on the machine at `place`; of stages that no card computes, hours until they are done."""
    found: dict[str, float | None] = {}
    for stage in STAGES:
        estimates = [estimates[place] for work, estimates in rows if work.stage == stage]
        spent = [item.wall_hours if item.card_hours is None else item.card_hours for item in estimates]
        found[stage] = _sum(spent) if any(value is not None for value in spent) else None
    return found


def spent_text(rows: Sequence[Row], machines: Sequence[Machine], spent: dict[str, tuple[int, float, float]]) -> str:
    """Planned against spent hours of each stage that has run; '' if none has."""
    if not spent:
        return ""
    planned = [stage_hours(rows, place) for place in range(len(machines))]
    heads = ["stage", "jobs", "spent", *(f"planned, {machine}" for machine in machines)]
    body = [
        [stage, jobs, duration(seconds / 3600), *(duration(found[stage]) for found in planned)]
        for stage, (jobs, seconds, _) in spent.items()
    ]
    table = tabulate(body, heads, tablefmt="simple", colalign=["left"] + ["right"] * (len(heads) - 1))
    return f"Hours of jobs that have run, and planned card-hours of the whole stage:\n\n{table}\n"


def duration(value: float | None) -> str:
    """Hours as seconds, minutes, hours or days."""
    if value is None:
        return DASH
    for limit, size, unit in ((1 / 60, 3600, "s"), (1, 60, "min"), (48, 1, "h")):
        if value < limit:
            return f"{value * size:.1f} {unit}"
    return f"{value / 24:,.1f} days"


def taken(found: Estimate) -> str:
    """Wall time, and the precision that the card has to take instead of the configured one."""
    return duration(found.wall_hours) + (f" ({found.instead})" if found.instead else "")


def hours(value: float | None) -> str:
    """Card-hours with as many digits as matter."""
    return DASH if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def held(found: Estimate) -> str:
    """Gigabytes of a job, how many cards have them, and whether that is too much."""
    if found.memory is None:
        return DASH
    several = f" on {found.cards}" if found.cards > 1 else ""
    return f"{found.memory / 1e9:.1f}{several}" + ("" if found.fits else " !")


def number(value: float) -> str:
    """A count, in millions where it is long."""
    return f"{value / 1e6:,.1f} M" if value >= 1e6 else f"{value:,.0f}"


def petaflop(value: float) -> str:
    """FLOP in units of 10^15."""
    value /= 1e15
    return DASH if not value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def gigabytes(value: float) -> str:
    """Bytes in units of 10^9."""
    value /= 1e9
    return DASH if not value else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
