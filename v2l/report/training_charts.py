"""Trainings as charts: losses and codebook usage over the steps, as lines of an SVG in the page."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from v2l.errors import UserError
from v2l.report.evidence import Evidence, anchor

WIDTH, HEIGHT = 240, 90  # of the SVG's own coordinates
UNSHOWN = ("step", "epoch")


@dataclass(frozen=True)
class Chart:
    """One value over the steps: `points` are x,y pairs of an SVG polyline, `said` the same in words."""

    name: str
    points: str
    said: str
    first: str
    last: str


@dataclass(frozen=True)
class Training:
    """A training's charts, codebook usage first; of imported weights what their file says of their training."""

    title: str
    charts: list[Chart]
    steps: int
    imported: list[tuple[str, str]]
    record: str


def trainings(metrics: Iterable[Evidence]) -> list[Training]:
    """The trainings whose metrics (JSON lines) are there. Raises UserError for a damaged file."""
    return [_training(found) for found in metrics]


def _training(found: Evidence) -> Training:
    try:
        lines = [json.loads(line) for line in found.path.read_text().splitlines()]
        if not all(isinstance(line, dict) for line in lines):
            raise ValueError("a line is no object")
    except ValueError as error:
        raise UserError(f"{found.path} cannot be read ({error})", "metrics of a training", "make it again") from None
    imported = [(key, str(value)) for line in lines if "imported" in line for key, value in line.items()]
    measured = [line for line in lines if "step" in line]
    names = dict.fromkeys(name for line in measured for name in line if name not in UNSHOWN)
    usage = sorted(names, key=lambda name: "codes_" not in name)
    charts = [chart for name in usage if (chart := _chart(name, measured))]
    what = " ".join(dict.fromkeys([found.job["tokenizer"], found.job.get("predictor", "")])).strip()
    title = f"{found.record['stage']}: {what}"
    steps = measured[-1]["step"] if measured else 0
    return Training(title, charts, steps, imported, anchor("record", found.path))


def _chart(name: str, lines: list[dict[str, Any]]) -> Chart | None:
    """None for a value that was measured once or never."""
    found = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
    if len(found) < 2:
        return None
    steps, values = zip(*found, strict=True)
    span, low, high = steps[-1] - steps[0] or 1, min(values), max(values)
    height = high - low or 1
    points = " ".join(
        f"{(step - steps[0]) / span * WIDTH:.1f},{HEIGHT - (value - low) / height * HEIGHT:.1f}"
        for step, value in found
    )
    said = (
        f"{name.replace('_', ' ')} over the steps: {_shown(values[0])} at step {steps[0]}, "
        f"{_shown(values[-1])} at step {steps[-1]}, between {_shown(low)} and {_shown(high)}"
    )
    return Chart(name.replace("_", " "), points, said, _shown(values[0]), _shown(values[-1]))


def _shown(value: float) -> str:
    return f"{value:.4g}"
