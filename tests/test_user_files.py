"""The user's own files are inputs: a replaced one reruns the stage that reads it and what lies below."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dry_runs import below, running
from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig
from v2l.io import file_hashes
from v2l.io.file_hashes import file_hash, listing, listing_hash
from v2l.io.job_files import Inputs
from v2l.io.provenance import hash_path
from v2l.pipeline.record import provenance, run_key
from v2l.pipeline.required_files import paths_in
from v2l.pipeline.user_files import files_read, states


def replaced(path: Path) -> Callable[[], None]:
    """Another byte under the same path with the size it had and an older time; returns what undoes it."""
    content, status = path.read_bytes(), path.stat()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(0, status.st_mtime_ns - 10**15))

    def undo() -> None:
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return undo


def first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


COCO = "index_images .*/(coco-captions|vqa-v2).parquet"
REPLACED = {  # pattern of the replaced file -> patterns of the jobs that read it
    "llama/*.safetensors": "expand_vocabulary ",
    "llama/tokenizer.model": "expand_vocabulary ",
    "clip.safetensors": "embed_",
    "clip.json": "embed_",
    "roberta/*.safetensors": "train_tokenizer .*/lqae",
    "lpips-vgg.safetensors": "train_tokenizer (?!.*/lqae)",  # whose loss has no such part
    "lpips-alex.safetensors": "score_predictions_images ",
    "inception.pth": "score_predictions_images ",
    "imagenet/LOC_synset_mapping.txt": "index_images .*/(mini-)?imagenet.parquet",
    "imagenet/train/*/*": "index_images .*/imagenet.parquet",
    "coco/captions_val2014.json": COCO,
    "coco/questions.json": COCO,
    "coco/annotations.json": COCO,
    "coco/val2014/*": COCO,
    "mini-imagenet/test.csv": "index_images .*/mini-imagenet.parquet",
}


def test_every_file_that_the_configuration_names_is_replaced():
    config = load_experiment({"experiment": "tiny"})
    named = {Path(path).relative_to("tiny") for path in paths_in(config.model_dump(mode="json")).values()}
    named |= {Path(entry.model).relative_to("tiny") for entry in config.encoders.values()}
    assert len(named) > 10
    assert [path for path in named if not any(Path(pattern).is_relative_to(path) for pattern in REPLACED)] == []


@pytest.mark.parametrize("pattern", REPLACED)
def test_a_replaced_file_reruns_its_stage_and_what_lies_below(finished, dry_runs, whole, pattern):
    undo = replaced(first(finished.folder / "tiny", pattern))
    try:
        planned = running(dry_runs.plan("--config", "experiment=tiny"))
    finally:
        undo()
    assert planned == below(whole, (REPLACED[pattern],))


def test_added_and_removed_pictures_are_noticed_and_nothing_else(finished):
    folder = first(finished.folder / "tiny/imagenet/train", "*")
    added = folder / "added.JPEG"
    added.write_bytes(first(folder, "*.JPEG").read_bytes())
    assert "index_images" in finished.planned("all")
    added.rename(added.with_name(".hidden.JPEG"))
    (folder / "Thumbs.db").write_bytes(b"x")
    assert finished.planned("all") == {}
    gone = first(folder, "n*.JPEG")
    kept = gone.rename(finished.folder / "kept")
    assert "index_images" in finished.planned("all")
    kept.rename(gone)
    assert finished.planned("all") == {}


def test_a_listing_ends_at_links_and_opens_nothing(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.jpg").write_bytes(b"a")
    (tmp_path / "cat/loop").symlink_to(tmp_path)
    (tmp_path / "cat/all").symlink_to(tmp_path / "cat")
    (tmp_path / "dog").symlink_to(tmp_path / "cat")
    (tmp_path / "nothing.jpg").symlink_to("nowhere")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/b.jpg").write_bytes(b"b")
    os.mkfifo(tmp_path / "pipe.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"odd")
    assert [name for name, _, _ in listing(tmp_path)] == [b"\xff.jpg", b"cat/a.jpg", b"dog/a.jpg"]
    count, total, before = listing_hash(tmp_path)
    assert (count, total) == (3, 5)
    os.utime(tmp_path / "cat/a.jpg", ns=(0, 5))
    assert listing_hash(tmp_path)[2] != before


@pytest.fixture
def reads(monkeypatch, tmp_path) -> Iterator[list[Path]]:
    """Files that are read for their hash; every file counts as large."""
    read: list[Path] = []
    monkeypatch.setattr(file_hashes, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(file_hashes, "LARGE", 0)
    monkeypatch.setattr(file_hashes, "hash_path", lambda path: read.append(path) or hash_path(path))
    return read


def test_a_large_file_is_read_once_for_each_state(reads, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    found = {file_hash(path) for _ in range(3)}
    assert found == {hash_path(path)} and reads == [path]
    undo = replaced(path)
    assert file_hash(path) == hash_path(path) and len(reads) == 2
    undo()
    (kept,) = [file for file in (tmp_path / "cache").iterdir() if hash_path(path) in file.read_text()]
    kept.write_text("")
    assert file_hash(path) == hash_path(path) and len(reads) == 3


def test_a_cache_that_cannot_be_written_costs_time_alone(reads, monkeypatch, tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"content")
    (tmp_path / "file").touch()
    monkeypatch.setattr(file_hashes, "CACHE", tmp_path / "file" / "cache")
    assert file_hash(path) == hash_path(path)


def test_records_name_models_with_their_hash_and_the_key_of_a_run_covers_them(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    config = StageConfig("evaluate_llm", {"llms": {"own": {"path": str(folder)}}})
    record = provenance(config, Inputs({}))
    assert record["inputs"] == {"llms.own.path": [{"path": str(folder), "sha256": file_hash(folder)}]}
    undo = replaced(folder / "config.json")
    assert run_key(config, provenance(config, Inputs({}))) != run_key(config, record)
    undo()
    assert run_key(config, provenance(config, Inputs({}))) == run_key(config, record)


def test_each_stage_is_said_to_read_what_it_reads():
    data = {
        "datasets": {"own": {"kind": "folder", "root": "pictures"}},
        "encoders": {"clip": {"kind": "open_clip", "model": "arch.json", "weights": "clip.pt"}},
        "score_predictions": {"frechet_weights": "inception.pth", "lpips_weights": "lpips.pth"},
        "job": {"source": "vqa.majority-vote"},
    }
    clip = {"encoders.clip.model", "encoders.clip.weights"}
    images = {"score_predictions.frechet_weights", "score_predictions.lpips_weights"}
    assert set(files_read("index_images", data)) == {"datasets.own.root", *clip, *images}
    assert set(files_read("score_predictions", data)) == clip
    assert set(files_read("score_predictions", data | {"job": {"source": "reconstruction"}})) == clip | images


def test_what_a_run_makes_and_what_assets_hold_is_followed_otherwise():
    data = {"tokenizers": {"own": {"method": "vqgan", "start_from": "made"}}, "llms": {"a": {"path": "assets/a/model"}}}
    assert states("train_tokenizer", data, made=["made"]) == {}
    assert states("train_tokenizer", data) == {"tokenizers.own.start_from": "made is not there"}
