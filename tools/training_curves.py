"""Curves of trainings from their metrics files: `python -m tools.training_curves TARGET.png METRICS.jsonl ...`."""

import sys
from pathlib import Path

from matplotlib import style

from v2l.figures.training_curves import LOSSES, USAGE, curves, read_log
from v2l.make_figures import STYLE


def main(target: Path, sources: list[Path]) -> None:
    """The codebook's use and the losses of the figures codebook_usage and training_curves, in one picture."""
    with style.context(STYLE):
        curves({source.stem: read_log(source) for source in sources}, USAGE | LOSSES).savefig(target, dpi=200)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
