"""Stage make_report: tables, figures, pictures and answers of an experiment as one HTML page that opens offline."""

import logging

from v2l.configuration.slices import StageConfig
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.records import write_beside
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.report.content import content_of
from v2l.report.html_page import render


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `html`, of the inputs that are there (`v2l.report.present_files`); what is missing the page says itself.

    `job.tables` and `job.figures` name what the experiment should have, `job.logs` is the folder of its logs. Equal
    inputs and logs give equal bytes. Raises UserError for a damaged input.
    """
    text = render(content_of(config, inputs))
    with atomic_path(outputs["html"]) as temporary:
        temporary.write_text(text)
    write_beside(outputs["html"], provenance(config, inputs))
    logging.info("report of experiment %s: %.1f MB", config.experiment, len(text.encode()) / 1e6)


if __name__ == "__main__":
    run_stage(run)
