"""Curves of trainings: their losses and how they use their codebook, over the steps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.figures.labels import method_label
from v2l.figures.page import COLUMN, LINE, TEXT
from v2l.figures.text_lines import printable, width_of
from v2l.io.job_files import Inputs

LOSSES = {  # of the metrics file, and what they are called; those of one method alone behind those of all
    "pixel": "pixels (L1)",
    "perceptual": "perceptual (LPIPS)",
    "quantizer": "quantizer",
    "adversarial": "adversarial",
    "discriminator": "discriminator (hinge)",
    "semantic": "semantic",
    "masked_lm": "masked words",
}
USAGE = {"codes_share": "share of the codes in use", "codes_perplexity": "perplexity of the codes"}
SIGNED = {"adversarial"}  # may be below zero
FEW = 20  # points of a line that are marked, for a line of one point is none
ACROSS, PANEL = 2, 1.25  # panels side by side; inches of one's height
LEGEND_KEY = 0.42  # inches of an entry of the legend besides its text

Log = Sequence[Mapping[str, float]]  # the lines of a training that hold a step


def losses_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """A panel for each loss, in it a line for each training that has it. Raises UserError if a file holds no steps."""
    return _figure(inputs.files("metrics"), LOSSES)


def usage_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """As `losses_figure`, of the codebook's use between two lines of the metrics file."""
    return _figure(inputs.files("metrics"), USAGE)


def _figure(paths: Sequence[Path], panels: Mapping[str, str]) -> tuple[Figure, str]:
    logs = {path.name.removesuffix(".metrics.jsonl"): read_log(path) for path in paths}
    return curves(logs, panels), f"{len(logs)} trainings"


def read_log(path: Path) -> Log:
    """The lines of a training's metrics file that hold a step. Raises UserError if there is none."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line for line in lines if "step" in line]
    if not steps:
        raise UserError(
            f"{path} holds no steps of a training",
            "the metrics file of a tokenizer that was trained, not imported",
            "run `snakemake all_figures` again; if it stays so, delete the file",
        )
    return steps


def curves(logs: Mapping[str, Log], panels: Mapping[str, str]) -> Figure:
    """A panel for each key of `panels` that a log holds, named by its value; a line for each log, by its name."""
    shown = {key: label for key, label in panels.items() if any(key in line for log in logs.values() for line in log)}
    names = {name: printable(method_label(name)) for name in logs}
    columns = max(1, int(COLUMN / (LEGEND_KEY + max(width_of(label, TEXT) for label in names.values()))))
    rows, legend = -(-len(shown) // ACROSS), -(-len(names) // columns) * 1.3 * LINE
    figure = Figure(figsize=(COLUMN, rows * PANEL + legend + LINE), layout="constrained")
    panes = figure.subplots(rows, ACROSS, squeeze=False).flat
    styles = dict(zip(logs, line_styles(len(logs)), strict=True))
    for number, axes in enumerate(panes):
        if number >= len(shown):
            axes.remove()
            continue
        key, label = list(shown.items())[number]
        for name, log in logs.items():
            points = [(line["step"], line[key]) for line in log if key in line]
            if points:
                axes.plot(*zip(*points, strict=True), **styles[name], marker="." if len(points) < FEW else "")
        axes.set_title(label)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if key not in SIGNED:
            axes.set_ylim(0, None)
        if number + ACROSS >= len(shown):
            axes.set_xlabel("step")
    handles = [Line2D([], [], label=label, **styles[name]) for name, label in names.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def line_styles(count: int) -> list[dict]:
    """Colour and dashes of each of so many lines; no two are alike until every colour has had every kind of dashes."""
    cycle = rcParams["axes.prop_cycle"].by_key()
    colours, dashes = cycle["color"], cycle["linestyle"]
    return [
        {"color": colours[number % len(colours)], "linestyle": dashes[(number + number // len(colours)) % len(dashes)]}
        for number in range(count)
    ]
