"""Every output is atomic and carries its provenance."""

import hashlib
import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from v2l.configuration.experiment import load_experiment
from v2l.configuration.extensions import VARIABLE
from v2l.configuration.slices import StageConfig, project
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs
from v2l.io.json_records import write_json
from v2l.io.provenance import hash_path
from v2l.io.records import write_beside
from v2l.io.storage import parquet_metadata, parquet_writer, read_tensors, write_parquet, write_tensors
from v2l.pipeline.record import provenance


@pytest.fixture
def record(tmp_path) -> dict:
    source = tmp_path / "input.txt"
    source.write_text("abc")
    config = StageConfig("expand_vocabulary", project(load_experiment({"experiment": "demo"}), ["seed"]))
    return provenance(config, Inputs({"source": source}))


def test_record_names_stage_config_versions_and_input_hashes(record):
    assert record["stage"] == "expand_vocabulary" and record["config"] == {"seed": 0}
    assert record["inputs"]["source"][0]["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert {"python", "torch", "transformers"} <= set(record["versions"]) and record["commit"]
    assert "extensions" not in record


@pytest.mark.parametrize("name", ["input.parquet", "input.csv"])
def test_no_record_is_made_of_a_damaged_input(tmp_path, record, name):
    """A job may record an input that it does not go on to read: words, where a majority vote asks no model."""
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("a\n1\n")
        write_beside(path, {})
    else:
        write_parquet(path, pa.table({"a": [1]}), record)
    config, inputs = StageConfig("expand_vocabulary", record["config"]), Inputs({"source": path})
    provenance(config, inputs)
    content = path.read_bytes()
    path.unlink()  # a new file: one that is changed within the clock's tick looks unchanged
    path.write_bytes(content[:2] + bytes([content[2] ^ 1]) + content[3:])
    with pytest.raises(UserError, match=rf"{re.escape(name)} cannot be used: its content "):
        provenance(config, inputs)


@pytest.mark.parametrize("name", ["x.parquet", "x.safetensors", "x.json"])
def test_no_record_is_made_of_a_result_that_is_cut_short(tmp_path, monkeypatch, record, name):
    """What is left of it holds no digest: only its format tells."""
    monkeypatch.chdir(tmp_path)
    path = Path("results/demo/expand_vocabulary") / name
    if name.endswith("parquet"):
        write_parquet(path, pa.table({"a": [1]}), record)
    elif name.endswith("safetensors"):
        write_tensors(path, {"a": torch.ones(2)}, record)
    else:
        write_json(path, record)
    config, inputs = StageConfig("expand_vocabulary", record["config"]), Inputs({"source": path})
    provenance(config, inputs)
    for length in (0, 20):
        os.truncate(path, length)
        with pytest.raises(UserError, match=rf"{name} cannot be used: .*"):
            provenance(config, inputs)


def test_record_names_the_extensions_of_the_run(monkeypatch):
    paths = ["tests/extending/dataset.py", "tests/extending/image_metric.py"]
    monkeypatch.setenv(VARIABLE, os.pathsep.join(paths))
    config = StageConfig("expand_vocabulary", project(load_experiment({"experiment": "demo"}), ["seed"]))
    found = provenance(config, Inputs({}))["extensions"]
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]
    assert found == [{"path": path, "sha256": value} for path, value in zip(paths, hashes, strict=True)]


def test_interrupted_write_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "out.csv") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_keeps_the_older_file(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(ValueError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError
    assert path.read_text() == "old"


def test_parquet_round_trip_with_facts(tmp_path, record):
    path = tmp_path / "deep" / "table.parquet"
    write_parquet(path, pa.table({"a": [1, 2]}), record, {"grid": [2, 3]})
    assert pq.read_table(path)["a"].to_pylist() == [1, 2]
    assert parquet_metadata(path) == {"v2l": record, "grid": [2, 3]}


def test_parquet_stream_that_fails_leaves_no_file(tmp_path, record):
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(RuntimeError), parquet_writer(tmp_path / "t.parquet", schema, record) as writer:
        writer.write_table(pa.table({"a": [1]}, schema=writer.schema))
        raise RuntimeError
    assert not (tmp_path / "t.parquet").exists()


def test_tensors_round_trip_with_facts(tmp_path, record):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"feature_ND": torch.arange(6.0).reshape(2, 3).T}, record, {"encoder": "conse"})
    tensors, metadata = read_tensors(path)
    assert tensors["feature_ND"].tolist() == [[0, 3], [1, 4], [2, 5]] and metadata == {
        "v2l": record,
        "encoder": "conse",
    }


def test_equal_content_gives_equal_bytes(tmp_path, record):
    for name in ("a", "b"):
        write_tensors(tmp_path / f"{name}.safetensors", {"x": torch.ones(3)}, record, {"k": 1})
        write_parquet(tmp_path / f"{name}.parquet", pa.table({"a": [1.5]}), record)
    assert hash_path(tmp_path / "a.safetensors") == hash_path(tmp_path / "b.safetensors")
    assert hash_path(tmp_path / "a.parquet") == hash_path(tmp_path / "b.parquet")


def test_broken_parquet_names_the_file(tmp_path):
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="broken.parquet cannot be used"):
        parquet_metadata(path)


def test_provenance_beside_a_file(tmp_path, record):
    (tmp_path / "table.csv").write_text("a")
    beside = write_beside(tmp_path / "table.csv", record)
    written = json.loads(beside.read_text())
    assert beside.name == "table.csv.provenance.json" and {key: written[key] for key in record} == record


def test_folder_hash_depends_on_names_and_content(tmp_path):
    hashes = set()
    for name, text in (("a", "1"), ("a", "2"), ("b", "2")):
        folder = tmp_path / f"{name}{text}"
        folder.mkdir()
        (folder / name).write_text(text)
        hashes.add(hash_path(folder))
    assert len(hashes) == 3
