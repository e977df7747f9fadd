"""What an edit reruns: its own stage and what lies below it, nothing else (one key of each section)."""

import re

import pytest
import yaml

pytestmark = pytest.mark.pipeline

SHOWN_TABLES = {"make_tables", "make_tables_show"}
SHOWN_FIGURES = {"make_figures_show"}
FIGURE_RULES = {"make_figures_global_tokens", "make_figures_images", "make_figures_captioning_vqa"}
SCORES = {"score_predictions_answers", "score_predictions_semantics", "score_predictions_images"}
IMAGES = {"reconstruct_images", "reconstruct_images_restored", "reconstruct_images_pixels"}
BELOW_TOKENS = {"finetune_llm", "evaluate_llm"} | IMAGES | SCORES | SHOWN_TABLES | SHOWN_FIGURES | FIGURE_RULES
BELOW_CODEBOOK = {"train_tokenizer", "extract_tokens"} | BELOW_TOKENS

# What the language model that was fine-tuned for masked restoration answers, and what shows it.
MASKED = {"finetune_llm", "evaluate_llm", "reconstruct_images_restored", "score_predictions_images"}
MASKED |= {"make_figures_images"} | SHOWN_TABLES | SHOWN_FIGURES

# key of each section -> (new value, rules that run again)
MATRIX = {
    "index_images.max_rejected_share": (
        0.2,
        {"index_images", "index_images_rejected", "embed_images", "filter_vocabulary"} | BELOW_CODEBOOK,
    ),
    "expand_vocabulary.batch_size": (
        64,
        {"expand_vocabulary", "embed_vocabulary", "filter_vocabulary"} | BELOW_CODEBOOK,
    ),
    "embed_vocabulary.batch_size": (64, {"embed_vocabulary", "filter_vocabulary"} | BELOW_CODEBOOK),
    "embed_images.batch_size": (8, {"embed_images", "filter_vocabulary"} | BELOW_CODEBOOK),
    "filter_vocabulary.min_count": (2, {"filter_vocabulary"} | BELOW_CODEBOOK),
    "train_tokenizer.learning_rate": (1e-4, BELOW_CODEBOOK),
    "extract_tokens.batch_size": (2, {"extract_tokens"} | BELOW_TOKENS - {"reconstruct_images_pixels"}),
    "extract_tokens.corruption": ({"shift": "translate"}, {"extract_tokens"} | BELOW_TOKENS),
    "reconstruct_images.batch_size": (
        2,
        IMAGES | {"score_predictions_images", "make_figures_images"} | SHOWN_TABLES | SHOWN_FIGURES,
    ),
    "finetune_llm.learning_rate": (1e-4, MASKED),
    "evaluate_llm.masked.batch_size": (2, MASKED - {"finetune_llm"} | {"reconstruct_images"}),
    "evaluate_llm.classification.max_new_tokens": (
        5,
        {"evaluate_llm", "score_predictions_answers"} | SHOWN_TABLES,
    ),
    "score_predictions.bootstrap_samples": (60, SCORES | SHOWN_TABLES),
    "make_tables.decimals": (2, SHOWN_TABLES),
    "make_figures.dpi": (70, FIGURE_RULES | SHOWN_FIGURES),
}
NOTHING = {
    "fetch_assets.assets": [],
    "llms.unused": {"path": "nowhere"},
    "datasets.unused": {"kind": "folder", "root": "nowhere"},
    "tokenizers.unused": {"method": "vqgan"},
}


def override(key: str, value) -> list[str]:
    """`--config` arguments that set one dotted key."""
    first, *rest = key.split(".")
    for step in reversed(rest):
        value = {step: value}
    return ["--config", "experiment=tiny", f"{first}={yaml.safe_dump(value, default_flow_style=True).strip()}"]


def test_second_run_has_nothing_to_do(tiny_run):
    assert tiny_run.planned("all") == {}
    assert "Nothing to be done" in tiny_run.snakemake("all").stdout


@pytest.mark.parametrize("key", MATRIX)
def test_edit_reruns_its_stage_and_what_lies_below(tiny_run, key):
    value, rules = MATRIX[key]
    assert set(tiny_run.planned("all", *override(key, value))) == rules


@pytest.mark.parametrize("key", NOTHING)
def test_edit_that_no_job_reads_reruns_nothing(tiny_run, key):
    assert tiny_run.planned("all", *override(key, NOTHING[key])) == {}


def test_spelling_and_order_of_keys_rerun_nothing(tiny_run):
    path = tiny_run.folder / "config/experiments/tiny.yaml"
    original = path.read_text()
    values = yaml.safe_load(original)
    values["train_tokenizer"]["loss"]["pixel"] = 1
    try:
        path.write_text("# reordered\n" + yaml.safe_dump(dict(reversed(values.items()))))
        assert tiny_run.planned("all") == {}
    finally:
        path.write_text(original)


def test_resources_and_threads_rerun_nothing(tiny_run):
    resources = ("evaluate_llm:mem_mb=5", "evaluate_llm:shards=3", "evaluate_llm:device_map='auto'")
    assert tiny_run.planned("all", "--set-threads", "extract_tokens=1", "--set-resources", *resources) == {}


def test_further_model_runs_its_own_jobs_only(tiny_run):
    selection = {"restoration": {"llms": ["tiny-llama", "twin"]}}
    planned = tiny_run.planned(
        "results/table4_restoration.csv",
        "--config",
        "experiment=tiny",
        "llms={twin: {path: tiny/llama, dtype: float32}}",
        f"evaluate_llm={selection}",
    )
    assert planned == {
        "evaluate_llm": 4,
        "reconstruct_images_restored": 4,
        "score_predictions_images": 4,
        "make_tables": 1,
        "make_tables_show": 1,
    }


def test_code_edit_reruns_its_stage_but_never_training(tiny_run):
    for module, expected in [
        ("evaluate_llm", {"evaluate_llm"}),
        ("finetune_llm", {"finetune_llm", "evaluate_llm"}),
        ("train_tokenizer", set()),
    ]:
        path = tiny_run.folder / "v2l" / f"{module}.py"
        original = path.read_text()
        try:
            path.write_text(original + "\n# an edit\n")
            planned = set(tiny_run.planned("all"))
        finally:
            path.write_text(original)
        assert expected <= planned and "train_tokenizer" not in planned and (expected or not planned)


TEXT_FIGURE = {"make_figures_captioning_vqa": 1, "make_figures_show": 2}
FINE = {  # module -> number of jobs of each rule that an edit to it runs again
    "tasks/vqa.py": {"evaluate_llm": 3, "score_predictions_answers": 3, "make_tables": 1, "make_tables_show": 3}
    | TEXT_FIGURE,
    "metrics/vqa_accuracy.py": {"score_predictions_answers": 3, "make_tables": 1, "make_tables_show": 3},
    "metrics/image_quality.py": {"score_predictions_images": 23, "make_tables": 2, "make_tables_show": 6},
    "figures/image_grids.py": {"make_figures_images": 3, "make_figures_show": 6},
}


@pytest.mark.parametrize("module", FINE)
def test_code_edit_reruns_the_jobs_that_use_it(tiny_run, module):
    path = tiny_run.folder / "v2l" / module
    original = path.read_text()
    try:
        path.write_text(original + "\n# an edit\n")
        assert tiny_run.planned("all") == FINE[module]
    finally:
        path.write_text(original)


def test_new_and_renamed_modules_below_training_retrain_nothing(tiny_run, tmp_path):
    project = tiny_run.copy(tmp_path)
    training = project.folder / "v2l/training"
    (training / "further.py").write_text("VALUE = 1\n")
    (training / "log.py").rename(training / "renamed.py")
    for path in (project.folder / "v2l").rglob("*.py"):
        text = path.read_text().replace("v2l.training.log", "v2l.training.renamed")
        path.write_text(
            text.replace("import Trainer\n", "import Trainer\nfrom v2l.training.further import VALUE  # noqa\n")
        )
    assert project.planned("all") == {}


def test_switching_experiments_keeps_the_results_of_the_first(tiny_run):
    result = tiny_run.snakemake("all_tables", "-n", "--config", "experiment=demo")
    assert result.returncode == 0 and "results/tiny" not in re.sub(r"assets/\S+", "", result.stdout)
