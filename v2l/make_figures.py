"""Stage make_figures: global tokens, captions and answers of images, restored and reconstructed images side by side."""

import logging

from matplotlib import style

from v2l.configuration.registry import implementation_of
from v2l.configuration.slices import StageConfig
from v2l.figures.figures import FIGURES
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.records import write_beside
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage

STYLE = "v2l.figures.v2l"  # v2l/figures/v2l.mplstyle


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Draw `job.figure` as `pdf` and `png`, each with its provenance beside it; equal input gives equal bytes.

    What each figure takes: `v2l.pipeline.figure_files`. Raises UserError if there is nothing to show.
    """
    record = provenance(config, inputs)
    with style.context(STYLE):
        figure, shown = implementation_of(FIGURES[config.job["figure"]])(config, inputs)
        for name, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
            with atomic_path(outputs[name]) as temporary:
                figure.savefig(temporary, dpi=config.make_figures.dpi, metadata=metadata)
            write_beside(outputs[name], record)
    logging.info("figure %s: %s", config.job["figure"], shown)


if __name__ == "__main__":
    run_stage(run)
