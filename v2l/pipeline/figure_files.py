"""What each figure is drawn from: outputs of other stages, by the names that stage make_figures knows them by."""

from v2l.configuration.config import Config
from v2l.configuration.runs import Run
from v2l.figures.figures import FIGURES

NAMES = ("manifest", "manifests", "tokens", "words", "vocabulary", "images", "scores", "predictions", "metrics")


def figure_files(config: Config, figure: str) -> dict[str, list[str]]:
    """Paths below the experiment's results; names of NAMES that are left out have none."""
    kind = FIGURES[figure]
    runs = kind.runs(config)
    manifests = [f"index_images/{config.samples[run.source.task].dataset}.parquet" for run in runs]
    if trainings := kind.trainings(config):
        return {"metrics": [f"train_tokenizer/{name}.metrics.jsonl" for name in trainings]}
    if figure == "captioning_vqa":
        return {
            "manifests": manifests,
            "predictions": [f"evaluate_llm/{run.tokenizer}/{run.source.run}/{run.source.task}.parquet" for run in runs],
        }
    files = {"manifest": manifests[:1]}
    if figure == "global_tokens":
        return files | {
            "tokens": _of_stage("extract_tokens", runs),
            "words": [f"train_tokenizer/{run.tokenizer}.words.parquet" for run in runs],
            "vocabulary": ["expand_vocabulary/vocabulary.parquet"],
        }
    if figure == "reconstruction":
        files["scores"] = _of_stage("score_predictions", runs)
    return files | {"images": _of_stage("reconstruct_images", runs)}


def _of_stage(stage: str, runs: list[Run]) -> list[str]:
    return [f"{stage}/{run}.parquet" for run in runs]
