"""Everything that the page shows, gathered from the report's inputs."""

from pathlib import Path
from typing import Any

from v2l.configuration.slices import StageConfig
from v2l.figures.figures import FIGURES
from v2l.io.job_files import Inputs
from v2l.report.answers import answered_runs, places
from v2l.report.evidence import evidence
from v2l.report.gallery import gallery
from v2l.report.page import data_uri
from v2l.report.pictures import DecodedPictures
from v2l.report.table_sections import table_sections


def content_of(config: StageConfig, inputs: Inputs) -> dict[str, Any]:
    """The variables of the templates, by name."""
    tables, scores = (evidence(inputs.files(name)) for name in ("tables", "scores"))
    figures = evidence(inputs.files("figures"))
    images = [DecodedPictures(found) for found in evidence(inputs.files("images"))]
    answered = answered_runs(config, evidence(inputs.files("items")), evidence(inputs.files("predictions")))
    return {
        "experiment": config.experiment,
        "tables": table_sections(tables, scores, places(answered)),
        "figures": [
            {
                "name": found.job["figure"],
                "caption": FIGURES[found.job["figure"]].caption,
                "image": data_uri(found.path.read_bytes(), "png"),
            }
            for found in figures
        ],
        "missing": missing(config, inputs),
        "parts": [("tables", "Tables"), ("figures", "Figures"), ("gallery", "Gallery"), ("answers", "Answers")],
        "pictures": gallery(config, inputs, images),
        "answered": answered,
        "trainings": [],
    }


def missing(config: StageConfig, inputs: Inputs) -> list[tuple[str, str]]:
    """What the experiment should have and has not yet, with the command that makes it."""
    lines = []
    for name, folder, ending in (("tables", "results", "csv"), ("figures", "results/figures", "png")):
        there = {Path(path).stem for path in inputs.files(name)}
        for wanted in config.job.get(name, "").split():
            if wanted not in there:
                lines.append((wanted, f"snakemake {folder}/{wanted}.{ending} --config experiment={config.experiment}"))
    return lines
