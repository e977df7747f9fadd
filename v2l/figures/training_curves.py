"""Curves of trainings: their losses and how they use their codebook, over the steps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

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
WIDE, WIDEST = 4, 100  # times the least value is the greatest: a logarithmic axis; one with powers of ten alone
FEW = 20  # points of a line that are marked, for a line of one point is none
ACROSS, PANEL = 2, 1.25  # panels side by side; inches of one's height
LEGEND_KEY = 0.42  # inches of an entry of the legend besides its text

Log = Sequence[Mapping[str, float]]  # the lines of a training that hold a step


def losses_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """A panel for each loss, in it a line for each training that has it. Raises UserError if a file holds no steps."""
    return _figure(inputs.files("metrics"), LOSSES)


def usage_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """As `losses_figure`, of the codebook's use in the windows of the guard; of a training too short for one, between
    two lines of the metrics file."""
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
    shown = {key: label for key, label in panels.items() if any(points(log, key) for log in logs.values())}
    names = {name: printable(method_label(name)) for name in logs}
    columns = max(1, int(COLUMN / (LEGEND_KEY + max(width_of(label, TEXT) for label in names.values()))))
    rows, legend = -(-len(shown) // ACROSS), -(-len(names) // columns) * 1.3 * LINE
    figure = Figure(figsize=(COLUMN, rows * PANEL + legend + LINE), layout="constrained")
    panes = list(figure.subplots(rows, ACROSS, squeeze=False, sharex=True).flat)
    styles = dict(zip(logs, line_styles(len(logs)), strict=True))
    for axes, (key, label) in zip(panes, shown.items(), strict=False):
        lines = {name: points(log, key) for name, log in logs.items()}
        _panel(axes, {name: line for name, line in lines.items() if line}, styles, key in LOSSES)
        axes.set_title(label)
    for axes in panes[len(shown) - ACROSS : len(shown)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    for axes in panes[len(shown) :]:
        axes.remove()
    panes[0].set_xlim(0, max(log[-1]["step"] for log in logs.values()) or 1)
    panes[0].xaxis.set_major_locator(MaxNLocator(3, integer=True))
    handles = [Line2D([], [], label=label, **styles[name]) for name, label in names.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def points(log: Log, key: str) -> list[tuple[float, float]]:
    """Step and value of a log's lines; of the codebook's use those of the guard's longer windows, if there are any."""
    kept = f"guard_{key}" if any(f"guard_{key}" in line for line in log) else key
    return [(line["step"], line[kept]) for line in log if kept in line]


def _panel(
    axes: Axes, lines: Mapping[str, list[tuple[float, float]]], styles: Mapping[str, dict], may_be_logarithmic: bool
) -> None:
    """Lines on a logarithmic scale where losses fall over a wide range, else from zero, or from what lies below."""
    for name, line in lines.items():
        axes.plot(*zip(*line, strict=True), **styles[name], marker="." if len(line) < FEW else "", clip_on=False)
    values = [value for line in lines.values() for _, value in line]
    least, greatest = min(values), max(values)
    if may_be_logarithmic and least > 0 and greatest > WIDE * least:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if greatest > WIDEST * least else (1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        room = 0.08 * (greatest - min(least, 0)) or 1
        axes.set_ylim(least - room if least < 0 else 0, greatest + room)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def line_styles(count: int) -> list[dict]:
    """Colour and dashes of each of so many lines; no two are alike until every colour has had every kind of dashes."""
    cycle = rcParams["axes.prop_cycle"].by_key()
    colours, dashes = cycle["color"], cycle["linestyle"]
    return [
        {"color": colours[number % len(colours)], "linestyle": dashes[(number + number // len(colours)) % len(dashes)]}
        for number in range(count)
    ]
