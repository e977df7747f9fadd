"""Curves of trainings from their metrics files: `python -m tools.training_curves TARGET.png METRICS.jsonl ...`."""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

PANELS = {
    "guard_codes_share": "share of codes in use",
    "guard_codes_perplexity": "perplexity of the codes",
    "pixel": "L1 of pixels in [-1, 1]",
    "discriminator": "discriminator's hinge loss",
}


def main(target: Path, sources: list[Path]) -> None:
    """A panel for each value, a line for each file; steps are shares of the file's last one."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 2).flat
    for axis, (key, label) in zip(axes, PANELS.items(), strict=True):
        for number, source in enumerate(sources):
            lines = [json.loads(line) for line in source.read_text().splitlines()]
            points = [(line["step"] / lines[-1]["step"], line[key]) for line in lines if key in line]
            if points:
                axis.plot(*zip(*points, strict=True), label=source.stem, linewidth=1, color=f"C{number}")
        axis.set(xlabel="share of the steps", ylabel=label, xlim=(0, 1), ylim=(0, None))
        axis.grid(alpha=0.3)
    figure.legend(*figure.axes[2].get_legend_handles_labels(), loc="outside upper center", ncols=len(sources))
    figure.savefig(target, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
