"""What an edit reruns: code, further entries and spellings; keys stand in tests/test_rerun_matrix.py."""

import re

import pytest
import yaml

pytestmark = pytest.mark.pipeline

NOTHING = {
    "llms": {"unused": {"path": "nowhere"}},
    "datasets": {"unused": {"kind": "folder", "root": "nowhere"}},
    "tokenizers": {"unused": {"method": "vqgan"}},
}


def test_second_run_has_nothing_to_do(tiny_run):
    assert tiny_run.planned("all") == {}
    assert "Nothing to be done" in tiny_run.snakemake("all").stdout


@pytest.mark.parametrize("section", NOTHING)
def test_an_entry_that_no_job_reads_reruns_nothing(tiny_run, section):
    override = f"{section}={yaml.safe_dump(NOTHING[section], default_flow_style=True).strip()}"
    assert tiny_run.planned("all", "--config", "experiment=tiny", override) == {}


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


ONE_FIGURE = {"make_figures": 1, "make_figures_show": 2}
FINE = {  # module -> number of jobs of each rule that an edit to it runs again
    "tasks/vqa.py": {"evaluate_llm": 3, "score_predictions_answers": 3, "make_tables": 1, "make_tables_show": 3}
    | ONE_FIGURE,
    "metrics/vqa_accuracy.py": {"score_predictions_answers": 3, "make_tables": 1, "make_tables_show": 3},
    "metrics/image_quality.py": {"score_predictions_images": 23, "make_tables": 2, "make_tables_show": 6}
    | ONE_FIGURE,  # of reconstructions with their scores
    "figures/image_grids.py": {"make_figures": 3, "make_figures_show": 6},
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
