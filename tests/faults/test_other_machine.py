"""The same jobs one after the other, with more threads and the work shared out: not a byte of the results differs."""

import re

import pytest

from tests.conftest import is_thorough
from tests.faults.jobs import JobServer, list_jobs

# Of the rules that share work out, those with more than one batch here.
SHARDS = {"filter_vocabulary": 2, "extract_tokens": 2, "evaluate_llm": 3, "score_predictions_images": 2}


def test_cores_and_shards_change_no_byte(tiny_run, new_project, tmp_path, pytestconfig):
    if not is_thorough(pytestconfig):
        pytest.skip("a whole run: `pytest -m faults`")
    other = new_project()
    shares = [f"{rule}:shards={count}" for rule, count in SHARDS.items()]
    said = ""
    with JobServer(other.folder, tmp_path, threads=3) as server:
        for job in list_jobs(other.folder, "all", "--cores", "1", "--set-resources", *shares):
            ended = server.run(job)
            assert ended.status == 0, ended.output[-6000:]
            said += ended.output
    assert set(re.findall(r"(\d) shards done", said)) >= {"2", "3"}
    folders = [project.folder / "results" for project in (tiny_run, other)]
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert one.keys() == two.keys()
    assert [str(name) for name in one if one[name] != two[name]] == []
