"""GPUs that cannot run a job are named before the first one starts."""

import json
import os
from pathlib import Path

import pytest

from v2l.cluster import card_check
from v2l.cluster.card_check import FoundCard, cards_of_nodes, check_nodes, check_precisions, local_cards
from v2l.configuration.cards import read_cards
from v2l.errors import UserError
from v2l.gpu_support import precisions_of, require_code

V100, A100, B300 = FoundCard("V100", (7, 0)), FoundCard("A100", (8, 0)), FoundCard("B300", (10, 3))
LOCKED = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


def write_driver_tool(folder: Path, *lines: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    tool.chmod(0o755)


@pytest.mark.parametrize("card", [A100, B300, FoundCard("L40S", (8, 9)), FoundCard("T4", (7, 5))])
def test_cards_that_torch_has_code_for(card):
    require_code(LOCKED, *card)


@pytest.mark.parametrize("card", [V100, FoundCard("next", (13, 0)), FoundCard("P100", (6, 0))])
def test_cards_that_torch_has_no_code_for(card):
    with pytest.raises(UserError, match=rf"no code for {card.name} .*7.5, 8.0, .*requirements-volta.lock"):
        require_code(LOCKED, *card)


def test_portable_code_runs_on_every_later_card():
    require_code([*LOCKED, "compute_120"], "next", (13, 0))


def test_precisions_of_cards():
    assert precisions_of((7, 0)) == ["float32", "float16"]
    assert precisions_of((8, 0)) == ["float32", "float16", "tf32", "bfloat16"]


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"llms": {"big": {"path": "x", "dtype": "bfloat16"}}}, "llms.big.dtype"),
        ({"train_tokenizer": {"precision": "tf32"}}, "train_tokenizer.precision"),
        ({"encoders": {"clip": {"kind": "open_clip", "precision": "bfloat16"}}}, "encoders.clip.precision"),
    ],
)
def test_a_precision_that_the_card_lacks_is_refused(section, key):
    check_precisions(A100, [json.dumps(section)])
    with pytest.raises(UserError, match=rf"`{key}` is .*, which V100 \(compute capability 7.0\).*float32, float16"):
        check_precisions(V100, ["{}", json.dumps(section)])


def test_the_precision_of_a_checkpoint_is_checked_where_none_is_set(tmp_path):
    (tmp_path / "config.json").write_text('{"dtype": "bfloat16"}')
    section = {"llms": {"big": {"path": str(tmp_path), "dtype": None}}}
    with pytest.raises(UserError, match="`llms.big.dtype` is bfloat16, which V100"):
        check_precisions(V100, [json.dumps(section)])
    section["llms"]["big"]["dtype"] = "float16"
    check_precisions(V100, [json.dumps(section)])


def test_cards_are_read_from_the_driver(tmp_path, monkeypatch):
    write_driver_tool(tmp_path, "NVIDIA A100-SXM4-80GB, 8.0", "NVIDIA A100-SXM4-80GB, 8.0", "Old, [N/A]")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert local_cards() == [FoundCard("NVIDIA A100-SXM4-80GB", (8, 0))]
    monkeypatch.setattr(card_check, "QUERY", ("no-such-tool",))
    assert local_cards() == []


def test_cards_of_a_cluster_are_known_by_the_types_of_its_nodes():
    known = read_cards()
    assert cards_of_nodes("gpu:tesla_v100:4(S:0-1)", known) == [FoundCard("V100", (7, 0))]
    assert cards_of_nodes("gpu:a100_80gb:2,gpu:H100:1", known) == [FoundCard("A100", (8, 0)), FoundCard("H100", (9, 0))]
    assert cards_of_nodes("gpu:mystery:2", known) == [None] and cards_of_nodes("gpu:8", known) == []


def test_one_card_of_a_partition_that_can_is_enough(monkeypatch):
    monkeypatch.setattr(card_check, "installed_architectures", lambda: LOCKED)
    wanted = [json.dumps({"train_tokenizer": {"precision": "tf32"}})]
    check_nodes([V100, A100], wanted)
    check_nodes([V100, None], wanted)
    check_nodes([], wanted)
    with pytest.raises(UserError, match="no code for V100"):
        check_nodes([V100], wanted)
    with pytest.raises(UserError, match="`train_tokenizer.precision` is tf32, which T4"):
        check_nodes([FoundCard("T4", (7, 5)), V100], wanted)


def test_a_run_stops_before_its_first_job(tmp_path, new_project):
    project = new_project()
    write_driver_tool(tmp_path, "Tesla V100-SXM2-16GB, 7.0")
    target = "results/tiny/index_images/imagenet.parquet"
    result = project.snakemake(target, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "no code for Tesla V100-SXM2-16GB (compute capability 7.0)" in result.stdout, result.stdout
    assert result.returncode != 0 and not (project.folder / "results").exists()
