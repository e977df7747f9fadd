"""Heavy stages as several processes: the same bytes, and what a failed one leaves."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.pipeline import shards
from v2l.pipeline.shards import run_shards, sharded_tables

OUTPUTS = {
    "embed_vocabulary": "embed_vocabulary/embedding.safetensors",
    "embed_images": "embed_images/imagenet.safetensors",
    "filter_vocabulary": "filter_vocabulary/codebook.safetensors",
    "extract_tokens": "extract_tokens/v2l/restoration.parquet",
    "evaluate_llm": "evaluate_llm/v2l/tiny-llama/classification.parquet",
    "score_predictions_images": "score_predictions/v2l/restoration.tokenizer-oracle.parquet",
}


# Small batches, for the toy data has to make several.
BATCHES = {
    "embed_vocabulary": {"batch_size": 32},
    "embed_images": {"batch_size": 2},
    "filter_vocabulary": {"batch_size": 2},
    "extract_tokens": {"batch_size": 2},
    "evaluate_llm": {"classification": {"batch_size": 2}},
    "score_predictions": {"batch_size": 2},
}


@pytest.mark.pipeline
def test_heavy_stages_give_the_same_bytes_however_many_share_the_work(tiny_run, tmp_path):
    project = tiny_run.copy(tmp_path)
    paths = [Path("results/tiny", name) for name in OUTPUTS.values()]
    config = ["experiment=tiny", *[f"{section}={json.dumps(values)}" for section, values in BATCHES.items()]]

    def made(*arguments: str) -> tuple[list[bytes], str]:
        for path in paths:
            (project.folder / path).unlink()
        options = ["--rerun-triggers", "mtime", "--allowed-rules", *OUTPUTS, "--config", *config]
        result = project.snakemake(*map(str, paths), *arguments, *options)
        assert result.returncode == 0, result.stdout[-6000:]
        assert not list(project.folder.glob("results/tiny/**/.*")), "parts are gone"
        return [(project.folder / path).read_bytes() for path in paths], result.stdout

    whole, said = made()
    assert "shards done" not in said
    shared, said = made("--set-resources", *[f"{rule}:shards=3" for rule in OUTPUTS])
    assert said.count("3 shards done") == len(OUTPUTS), said[-6000:]
    for path, one, other in zip(paths, whole, shared, strict=True):
        assert one == other, path


def squares(blocks):
    yield from (pa.table({"square": [number**2 for number in block]}) for block in blocks)


@pytest.fixture
def place(tmp_path):
    """What a stage hands over: configuration (with machine settings), record, inputs and outputs."""

    def make(**machine: str):
        config = StageConfig("embed_images", {"job": {"dataset": "d"}}, machine)
        return config, {"inputs": {}}, {}, {"features": tmp_path / "features"}

    return make


BLOCKS = [[1, 2], [3], [4, 5], [6], [7, 8]]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_parts_come_back_in_the_order_of_the_blocks(place, tmp_path, monkeypatch, count):
    def started(config, inputs, folder, count):
        paths = [folder / f"{shard}.parquet" for shard in range(count)]
        for shard, path in enumerate(paths):
            part = place(shard=str(shard), shards=str(count))[:3]
            with pytest.raises(SystemExit) as ended:
                sharded_tables(*part, {"part": path}, BLOCKS, squares)
            assert ended.value.code == 0
        return paths

    monkeypatch.setattr(shards, "run_shards", started)
    tables = sharded_tables(*place(shards=str(count)), BLOCKS, squares)
    assert [table["square"].to_pylist() for table in tables] == [[n**2 for n in block] for block in BLOCKS]
    assert not list(tmp_path.iterdir())


def test_parts_in_a_folder_of_the_stage_stay_there(place, tmp_path):
    parts = tmp_path / "parts"
    for shard in range(2):
        config, record, inputs, _ = place(shard=str(shard), shards="2")
        with pytest.raises(SystemExit):
            sharded_tables(
                config, record, inputs, {"part": parts / f"shard-{shard}-of-2.parquet"}, BLOCKS, squares, parts
            )
    tables = sharded_tables(
        *place(shards="2", launcher="false"), BLOCKS, squares, parts
    )  # both are there: none is started
    assert [table["square"].to_pylist() for table in tables] == [[n**2 for n in block] for block in BLOCKS]
    assert len(list(parts.iterdir())) == 2


def test_a_failed_shard_is_named_and_finished_ones_are_kept(place, tmp_path):
    (tmp_path / "shard-1-of-3.parquet").touch()
    config, _, inputs, _ = place(launcher="false")
    with pytest.raises(UserError, match="shards 0, 2 of 3 failed.*run again"):
        run_shards(config, inputs, tmp_path, 3)
    assert (tmp_path / "shard-1-of-3.parquet").exists()


def test_a_shard_runs_the_code_of_its_job(place, tmp_path):
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nexit 1\n')
    launcher.chmod(0o755)
    config, _, inputs, _ = place(launcher=str(launcher))
    config.code = ("v2l.embed_images", "v2l.encoders.conse:Conse")
    with pytest.raises(UserError, match="shards 0 of 1 failed"):
        run_shards(config, inputs, tmp_path, 1)
    assert " --code v2l.embed_images v2l.encoders.conse:Conse --output part " in (tmp_path / "arguments").read_text()
