"""What a second run does again; keys stand in tests/test_rerun_matrix.py, code in tests/test_code_edits.py."""

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


def test_switching_experiments_keeps_the_results_of_the_first(tiny_run):
    result = tiny_run.snakemake("all_tables", "-n", "--config", "experiment=demo")
    assert result.returncode == 0 and "results/tiny" not in re.sub(r"assets/\S+", "", result.stdout)
