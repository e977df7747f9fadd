"""Everything that the page shows, gathered from the report's inputs."""

from pathlib import Path
from typing import Any

from v2l.configuration.baselines import BASELINES
from v2l.configuration.slices import StageConfig
from v2l.figures.figures import FIGURES
from v2l.io.job_files import Inputs
from v2l.report.answers import answered_runs, places
from v2l.report.embedded_pictures import DecodedPictures
from v2l.report.evidence import evidence
from v2l.report.gallery import gallery
from v2l.report.html_page import data_uri
from v2l.report.making import making
from v2l.report.table_sections import table_sections
from v2l.report.training_charts import trainings

RECORDED = (
    *("tables", "figures", "scores", "item_scores", "predictions", "images", "tokens", "words", "vocabulary"),
    *("manifests", "trainings"),
)
PARTS = {  # variable of the templates -> place in the page and heading
    "tables": ("tables", "Tables"),
    "figures": ("figures", "Figures"),
    "pictures": ("gallery", "Gallery"),
    "answered": ("answers", "Behind the numbers"),
    "trainings": ("trainings", "Trainings"),
    "making": ("making", "How it was made"),
}


def content_of(config: StageConfig, inputs: Inputs) -> dict[str, Any]:
    """The variables of the templates, by name."""
    found = {name: evidence(inputs.files(name)) for name in RECORDED}
    images = [DecodedPictures(one) for one in found["images"]]
    answered = answered_runs(config, found["item_scores"], found["predictions"], images)
    results = f"results/{config.experiment}"
    content = {
        "experiment": config.experiment,
        "missing": missing(config, inputs),
        "baselines": list(BASELINES),
        "tables": table_sections(found["tables"], found["scores"], places(answered)),
        "figures": [
            {
                "name": one.job["figure"],
                "caption": FIGURES[one.job["figure"]].caption,
                "image": data_uri(one.path.read_bytes(), "png"),
            }
            for one in found["figures"]
        ],
        "pictures": gallery(config, inputs, images),
        "answered": answered,
        "trainings": trainings(found["trainings"]),
        "making": making((one for files in found.values() for one in files), results, Path(config.job["logs"])),
    }
    return content | {"parts": [part for name, part in PARTS.items() if content[name]]}


def missing(config: StageConfig, inputs: Inputs) -> list[tuple[str, str]]:
    """What the experiment should have and has not yet, with the command that makes it."""
    lines = []
    for name, folder, ending in (("tables", "results", "csv"), ("figures", "results/figures", "png")):
        there = {path.stem for path in inputs.files(name)}
        for wanted in config.job.get(name, "").split():
            if wanted not in there:
                lines.append((wanted, f"snakemake {folder}/{wanted}.{ending} --config experiment={config.experiment}"))
    return lines
