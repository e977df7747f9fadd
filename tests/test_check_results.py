"""`snakemake check_results` names what no longer matches its record, also without Snakemake's memory."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from tests.conftest import Project
from v2l.configuration.slices import StageConfig
from v2l.io.job_files import Inputs
from v2l.io.json_records import write_json
from v2l.io.records import write_beside
from v2l.io.storage import write_parquet, write_tensors
from v2l.pipeline import check_results
from v2l.pipeline.check_results import Job, differences, result_files
from v2l.pipeline.record import provenance

CODE = ("v2l.evaluate_llm", "v2l.tasks.vqa:VQATask")


@pytest.fixture
def result(tmp_path) -> tuple[Path, Job]:
    """A result with its record, and the job that made it."""
    check_results._present_hash.cache_clear()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "tokens").write_text("tokens")
    data = {"seed": 0, "llms": {"own": {"path": str(tmp_path / "model")}}}
    path = tmp_path / "results/stage/answers.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    write_beside(
        path, provenance(StageConfig("evaluate_llm", data, code=CODE), Inputs({"tokens": tmp_path / "tokens"}))
    )
    return path, Job(data, {"tokens": [str(tmp_path / "tokens")]}, CODE)


def test_an_unchanged_result_matches(result):
    assert differences(*result) == []


def test_each_kind_of_change_is_named(result, tmp_path):
    path, job = result
    assert differences(path, job._replace(config=job.config | {"seed": 3})) == ["config seed: 0 -> 3"]
    assert differences(path, job._replace(inputs={"tokens": ["other"]})) == [
        f"input tokens: {tmp_path / 'tokens'} -> other"
    ]
    (tmp_path / "model/config.json").write_text("[]")
    assert differences(path, job) == [f"input llms.own.path: {tmp_path / 'model'} has changed"]
    (tmp_path / "model/config.json").write_text("{}")
    (tmp_path / "tokens").unlink()
    check_results._present_hash.cache_clear()
    assert differences(path, job) == [f"input tokens: {tmp_path / 'tokens'} is not there any more"]


def test_changed_code_is_named(result):
    path, job = result
    beside = path.with_name("answers.json.provenance.json")
    record = json.loads(beside.read_text())
    modules = record["code"]["modules"]
    assert "v2l/llm/engine.py" in modules and "v2l/configuration/config.py" not in modules
    other = {"digest": "0", "modules": modules | {"v2l/llm/engine.py": "0", "v2l/llm/gone.py": "0"}}
    write_json(beside, record | {"code": other})
    assert differences(path, job) == [f"code v2l/llm/{name}.py has changed" for name in ("engine", "gone")]
    write_json(beside, record | {"code": other | {"modules": modules}})
    assert differences(path, job) == ["code: what its modules import or are used for has changed"]
    del record["code"]
    write_json(beside, record)
    assert differences(path, job) == ["code: not in the record"]


def test_a_file_without_a_record_or_a_job_is_named(result):
    path, job = result
    assert "no job of the active configuration" in differences(path, None)[0]
    beside = path.with_name("answers.json.provenance.json")
    path.write_text("[]")
    assert differences(path, job)[0].startswith("it or its record is damaged (its content is not what was written")
    beside.write_text("{")
    assert differences(path, job)[0].startswith("it or its record is damaged (Expecting property name")
    beside.unlink()
    assert differences(path, job) == ["no record of what made it"]
    assert result_files(path.parents[1]) == [path]


def test_the_target_fails_when_a_result_does_not_match(tmp_path):
    project = Project(tmp_path)
    assert "0 of 0 results match" in project.snakemake("check_results").stdout
    path = tmp_path / "results/tiny/make_tables/table4_restoration.csv"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    path.with_name(path.name + ".provenance.json").write_text(json.dumps({"stage": "make_tables", "config": {}}))
    found = project.snakemake("check_results")
    assert found.returncode == 1 and "0 of 1 results match" in found.stdout, found.stdout
    assert "config experiment: absent -> tiny" in found.stdout
    assert f"--config experiment=tiny --forcerun {path.relative_to(tmp_path)}" in found.stdout


@pytest.mark.parametrize("suffix", [".parquet", ".safetensors"])
def test_records_within_files_count_and_damage_is_named(result, suffix):
    beside, job = result
    record = json.loads(beside.with_name("answers.json.provenance.json").read_text())
    path = beside.with_suffix(suffix)
    if suffix == ".parquet":
        write_parquet(path, pa.table({"a": [1]}), record, {"grid": [1]})
    else:
        write_tensors(path, {"a": torch.ones(1)}, record, {"encoder": "e"})
    assert differences(path, job) == []
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:20] + bytes([content[20] ^ 4]) + content[21:])
    assert "damaged (its content does not match the digest" in differences(path, job)[0]
