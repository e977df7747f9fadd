"""The same experiment on other cores and with the work shared out otherwise: not a byte of the results differs."""

import re

import pytest

from tests.conftest import is_thorough

# Of the rules that share work out, those with more than one batch here.
SHARDS = {"filter_vocabulary": 2, "extract_tokens": 2, "evaluate_llm": 3, "score_predictions_images": 2}


def test_cores_and_shards_change_no_byte(tiny_run, new_project, pytestconfig):
    if not is_thorough(pytestconfig):
        pytest.skip("a whole run: `pytest -m faults`")
    other = new_project()
    shares = [f"{rule}:shards={count}" for rule, count in SHARDS.items()]
    result = other.snakemake(
        "all", "--cores", "1", "--set-resources", *shares, OMP_NUM_THREADS="3", OMP_WAIT_POLICY="PASSIVE"
    )
    assert result.returncode == 0, result.stdout[-6000:]
    assert set(re.findall(r"(\d) shards done", result.stdout)) >= {"2", "3"}
    folders = [project.folder / "results" for project in (tiny_run, other)]
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert one.keys() == two.keys()
    assert [str(name) for name in one if one[name] != two[name]] == []
