"""The workflow as a user meets it before anything runs: style, dry runs, profiles and missing paths."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project without the tiny experiment's files."""
    return Project(tmp_path_factory.mktemp("bare"))


def test_rule_files_are_formatted():
    result = subprocess.run([sys.executable, "-m", "snakefmt", "--check", "workflow"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_linter_has_no_complaint(project):
    result = project.snakemake("--lint")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("experiment", ["demo", "paper", "tiny"])
def test_every_experiment_dry_runs_to_all_tables(project, experiment):
    result = project.snakemake("all_tables", "-n", "--config", f"experiment={experiment}")
    assert result.returncode == 0, result.stdout
    jobs = dict(re.findall(r"^(train_tokenizer(?:_import)?) +(\d+)", result.stdout, re.MULTILINE))
    expected = {"demo": {"train_tokenizer": "1", "train_tokenizer_import": "6"}}
    assert jobs == expected.get(experiment, {"train_tokenizer": "6"})
    assert re.search(r"make_tables +5\b", result.stdout)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/table4_restoratoin.csv", ["table 'table4_restoratoin'", "did you mean `table4_restoration`?"]),
        (
            "results/demo/evaluate_llm/v2l/majority-vot/restoration.parquet",
            ["predictor 'majority-vot'", "did you mean `majority-vote`?"],
        ),
    ],
)
def test_unknown_names_get_the_nearest_known_one(project, target, words):
    result = project.snakemake("-n", target, "--config", "experiment=demo")
    assert result.returncode and all(word in result.stdout for word in words), result.stdout


def test_one_table_needs_only_its_own_stages(project):
    jobs = project.planned("results/table2_semantics.csv")
    assert jobs["train_tokenizer"] == 4 and jobs["make_tables"] == 1 and "evaluate_llm" not in jobs


def test_cluster_profile_works_from_a_clean_checkout(project):
    result = project.snakemake("--profile", "slurm", "all_tables", "-n")
    assert result.returncode == 0 and "workflow specific profile" in result.stdout, result.stdout


def test_profiles_share_no_key_and_name_rules_that_exist():
    site = yaml.safe_load(Path("slurm/profile.v9+.yaml").read_text())
    workflow = yaml.safe_load(Path("workflow/profiles/default/profile.v9+.yaml").read_text())
    assert not set(site) & set(workflow)
    text = "".join(path.read_text() for path in Path("workflow/rules").glob("*.smk"))
    assert set(workflow["set-resources"]) <= set(re.findall(r"^rule (\w+):", text, flags=re.MULTILINE))


def test_dry_run_of_the_paper_warns_of_missing_paths(project):
    result = project.snakemake("all_tables", "-n", "--config", "experiment=paper")
    assert "llms.llama2-70b.path: models/llama-2-70b-hf" in result.stdout and "datasets.imagenet.root" in result.stdout


def test_real_run_of_the_paper_lists_every_missing_path_and_starts_nothing(project):
    result = project.snakemake("all_tables", "--config", "experiment=paper")
    assert result.returncode != 0 and "paths that this run needs do not exist" in result.stdout
    for key in (
        "llms.llama2-7b.path",
        "llms.llama2-13b.path",
        "encoders.clip-vit-l-14.weights",
        "datasets.imagenet.root",
        "datasets.mini-imagenet.root",
        "score_predictions.frechet_weights",
    ):
        assert f"{key}: " in result.stdout, key
    assert not (project.folder / "results").exists() and not (project.folder / "assets").exists()


def test_paths_that_no_job_needs_are_not_asked_for(project):
    result = project.snakemake("results/paper/expand_vocabulary/vocabulary.parquet", "--config", "experiment=paper")
    assert result.returncode != 0
    assert (
        "llms.llama2-7b.path" in result.stdout
        and "datasets.imagenet.root" not in result.stdout.split("do not exist")[1]
    )


def test_wrong_key_stops_at_parse_time(project):
    path = project.folder / "config" / "config.yaml"
    original = path.read_text()
    try:
        path.write_text(original + "\nexpand_vocabulary: {batchsize: 3}\n")
        result = project.snakemake("all_tables", "-n")
    finally:
        path.write_text(original)
    assert result.returncode != 0
    assert "`expand_vocabulary.batchsize`: unknown key; did you mean `batch_size`?" in result.stdout


def test_asset_that_is_not_locked_is_named(project):
    result = project.snakemake(
        "results/demo/index_images/emoji.parquet",
        "-n",
        "--config",
        "experiment=demo",
        "datasets={emoji: {root: assets/nowhere/pictures}}",
    )
    assert result.returncode != 0 and "nowhere" in result.stdout and "config/assets.lock" in result.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_names_the_two_commands():
    result = subprocess.run(["make", "help"], capture_output=True, text=True)
    assert "make demo" in result.stdout and "make test" in result.stdout


def test_a_report_of_nothing_starts_no_stage(project):
    assert project.planned("report") == {"make_report": 1, "make_report_show": 1, "report": 1}
