"""A damaged file of the pipeline is refused by name, or gives what it held: never other results, never a traceback."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from v2l.errors import UserError
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.io.digests import BLANK, DIGITS, MARK, MARK_BEHIND, DamagedFile, require_whole, seal
from v2l.io.json_records import read_json, write_json
from v2l.io.pixel_files import PixelFile, create_pixels, write_pixels
from v2l.io.records import read_beside, require_recorded, write_beside
from v2l.io.storage import (
    open_parquet,
    parquet_metadata,
    read_parquet,
    read_tensors,
    tensor_metadata,
    write_parquet,
    write_tensors,
)
from v2l.llm.journal import Journal

RECORD = {"stage": "extract_tokens", "config": {"seed": 0}}
SIDE = 3
IMAGES = np.arange(4 * SIDE * SIDE * 3, dtype=np.uint8).reshape(4, SIDE, SIDE, 3)
ANSWERS = {"a": [1, 2], "b": [3], "c": []}
GOLDEN = b"6f94fee53614c5481f19f39c36043db5d1cabcce9a181bc0b300e046e9410653"


def write_pixel_file(path: Path) -> None:
    create_pixels(path, IMAGES.shape)
    write_pixels(path, [2, 3], IMAGES[2:])
    write_pixels(path, [0, 1], IMAGES[:2])


def write_journal(path: Path) -> None:
    with Journal("asking", 3, path.parent) as journal:
        journal.add(["a", "b"], [[1, 2], [3]])
        journal.add(["c"], [[]])


def read_journal(path: Path) -> object:
    """The answers that are known; a lost one is asked again, so it is only a wrong one that would count."""
    folder = path.parent / "journal"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(path, folder / "batches.0.jsonl")
    with Journal("asking", 3, folder) as journal:
        known = {key: journal.known(key) for key in ANSWERS}
    return all(answer in (None, ANSWERS[key]) for key, answer in known.items())


def read_table(path: Path) -> object:
    with open_parquet(path) as file:
        rows = file.read().to_pylist()
    return read_parquet(path).to_pylist(), parquet_metadata(path), rows


def read_weights(path: Path) -> object:
    tensors, metadata = read_tensors(path)
    return {name: tensor.tolist() for name, tensor in tensors.items()}, metadata, tensor_metadata(path)


TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2, dtype=torch.int64)}
FORMATS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "Parquet": (
        "x.parquet",
        lambda path: write_parquet(path, pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}), RECORD, {"grid": [2, 3]}),
        read_table,
    ),
    "safetensors": ("x.safetensors", lambda path: write_tensors(path, TENSORS, RECORD, {"encoder": "e"}), read_weights),
    "JSON": ("x.json", lambda path: write_json(path, {"rows": [{"value": 0.125, "name": "ä"}]}), read_json),
    "pixels": (
        "x.npy",
        write_pixel_file,
        lambda path: [PixelFile(path).image(row).tolist() for row in range(len(IMAGES))],
    ),
    "journal": ("batches.0.jsonl", write_journal, read_journal),
}


@pytest.fixture(scope="module", params=FORMATS)
def whole(request, tmp_path_factory) -> tuple[Path, bytes, Callable[[Path], object], object]:
    """A file of a format with its bytes, its reader, and what that gives."""
    name, write, read = FORMATS[request.param]
    path = tmp_path_factory.mktemp("whole") / name
    write(path)
    return path, path.read_bytes(), read, read(path)


def require_same_or_refused(whole, content: bytes) -> bool:
    """Whether `content` in place of the file's is refused; it must be, by name, or give what the file held."""
    path, _, read, expected = whole
    path.unlink()  # a new file: one that is changed within the clock's tick looks unchanged
    path.write_bytes(content)
    require_whole.__globals__["_is_whole"].cache_clear()
    try:
        found = read(path)
    except DamagedFile as error:
        assert str(path) in str(error) and "\n" not in str(error) and "delete it and run again" in error.remedy
        return True
    assert found == expected
    return False


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_gives_other_results(whole, caplog):
    caplog.set_level(logging.CRITICAL)
    content = whole[1]
    bits = [8 * place + (3 * place + turn) % 8 for place in range(len(content)) for turn in range(2)]
    refused = sum(require_same_or_refused(whole, flipped(content, bit)) for bit in bits)
    if whole[0].suffix != ".jsonl":  # of which a damaged line is passed over
        assert refused == len(bits)


def test_no_file_that_is_cut_short_gives_other_results(whole, caplog):
    caplog.set_level(logging.CRITICAL)
    content = whole[1]
    refused = sum(require_same_or_refused(whole, content[:length]) for length in range(len(content)))
    if whole[0].suffix != ".jsonl":
        assert refused >= len(content) - 1  # a line's end may be missing


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_gives_other_results(whole, data):
    """Any bytes in place of any others, of whatever length: as of two files that were mixed up by a disk."""
    content = whole[1]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    noise = data.draw(st.binary(max_size=64) | st.integers(0, end - start).map(bytes))
    if noise != content[start:end]:
        damaged = content[:start] + noise + content[end:]
        # Without a mark it looks like a file without a digest.
        if MARK in damaged or MARK_BEHIND in damaged or whole[0].suffix in (".jsonl", ".npy"):
            require_same_or_refused(whole, damaged)


def test_a_digest_is_that_of_the_bytes_with_its_digits_at_zero(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"before " + BLANK + b" after")
    seal(path)
    # sha256 of the text with 64 zeros, by `sha256sum`
    sealed = b"before " + MARK + GOLDEN + MARK_BEHIND + b" after"
    assert path.read_bytes() == sealed and len(GOLDEN) == DIGITS
    require_whole(path)


@pytest.mark.parametrize("place", ["start", "end"])
def test_the_digest_of_a_large_file_is_found_at_either_end(tmp_path, place):
    path, noise = tmp_path / "x", np.random.default_rng(0).bytes((40 << 20) + 7)
    path.write_bytes(BLANK + noise if place == "start" else noise + BLANK)
    seal(path)
    require_whole(path)
    content = bytearray(path.read_bytes())
    content[20 << 20] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="does not match the digest"):
        require_whole(path)


def test_a_file_without_room_for_a_digest_is_a_fault_of_the_writer(tmp_path):
    (tmp_path / "x").write_bytes(b"none")
    with pytest.raises(ValueError, match="no room"):
        seal(tmp_path / "x")


def test_files_of_earlier_versions_and_foreign_ones_are_read(tmp_path):
    import pyarrow.parquet as pq
    from safetensors.torch import save_file

    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    save_file(TENSORS, tmp_path / "x.safetensors")
    (tmp_path / "x.json").write_text('{"rows": []}')
    assert read_parquet(tmp_path / "x.parquet")["a"].to_pylist() == [1]
    assert read_tensors(tmp_path / "x.safetensors")[0].keys() == TENSORS.keys()
    assert read_json(tmp_path / "x.json") == {"rows": []}


@pytest.mark.parametrize("name", ["x.parquet", "x.safetensors", "x.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"PAR1", b"[" * 100_000])
def test_what_is_no_file_of_its_format_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    read = {".parquet": read_table, ".safetensors": read_weights, ".json": read_json}[Path(name).suffix]
    with pytest.raises(UserError, match=rf"{name} cannot be used: "):
        read(tmp_path / name)


def test_a_damaged_result_names_the_stage_that_makes_it_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("results/demo/extract_tokens/v2l/vqa.parquet")
    write_parquet(path, pa.table({"a": [1]}), RECORD)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"extract_tokens/v2l/vqa.parquet cannot.*stage extract_tokens makes it anew"):
        read_parquet(path)
    with pytest.raises(UserError, match=r"gone.parquet cannot be used: No such file"):
        read_parquet(Path("gone.parquet"))


def state(step: int) -> dict:
    return {"step": step, "network": {"weight": torch.full((4,), float(step))}}


@pytest.fixture
def checkpoints(tmp_path) -> tuple[Path, Path]:
    """Two checkpoints, and the content of the newer."""
    for step in (10, 20):
        save_checkpoint(tmp_path, step, state(step))
    return tmp_path, tmp_path / "step-000000020.pt"


def step_of_newest(folder: Path, newest: Path, content: bytes) -> int:
    newest.unlink()
    newest.write_bytes(content)
    require_whole.__globals__["_is_whole"].cache_clear()
    found = newest_checkpoint(folder)
    assert found and found["network"]["weight"].tolist() == [float(found["step"])] * 4
    return found["step"]


def test_the_checkpoint_before_is_taken_for_a_damaged_one(checkpoints, caplog):
    """Every byte at one bit: 360 of 600 such flips once loaded other weights, and 45 ended the training."""
    content, before = checkpoints[1].read_bytes(), 0
    for place in range(len(content)):
        before += step_of_newest(*checkpoints, flipped(content, 8 * place + place % 8)) == 10
    assert before == len(content)
    assert len(caplog.messages) == before and "step-000000020.pt is broken" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_checkpoint_before_is_taken_for_one_that_is_cut_short(checkpoints, caplog):
    content = checkpoints[1].read_bytes()
    found = [step_of_newest(*checkpoints, content[:length]) for length in range(len(content))]
    archive = len(content) - len(BLANK)
    assert set(found[:archive]) == {10} and "Traceback" not in caplog.text


def test_training_goes_on_from_nothing_if_the_only_checkpoint_is_empty(tmp_path, caplog):
    (tmp_path / "step-000000020.pt").touch()
    assert newest_checkpoint(tmp_path) is None and "step-000000020.pt is broken" in caplog.text
    for step in (5, 10, 15):
        save_checkpoint(tmp_path, step, state(step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-000000010.pt", "step-000000015.pt", "step-000000020.pt"], "a broken one counts for none"
    save_checkpoint(tmp_path, 20, state(20))
    found = newest_checkpoint(tmp_path)
    assert found and found["step"] == 20


def test_a_damaged_line_of_a_journal_is_named_and_asked_again(tmp_path, caplog):
    write_journal(tmp_path / "batches.0.jsonl")
    path = tmp_path / "batches.0.jsonl"
    path.write_text(path.read_text().replace("[3]", "[4]"))
    with Journal("asking", 3, tmp_path) as journal:
        assert [journal.known(key) for key in "abc"] == [None, None, []]
        journal.add(["a", "b"], [[1, 2], [3]])
    assert caplog.messages == [f"{path}, line 1 is damaged and passed over"]
    with Journal("asking", 3, tmp_path) as journal:
        assert {key: journal.known(key) for key in "abc"} == ANSWERS


def test_what_was_edited_beside_its_record_is_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    write_beside(path, RECORD)
    require_recorded(path)
    assert (read_beside(path) or {}).keys() == {*RECORD, "content_sha256"}
    path.write_text("a,b\n1,3\n")
    with pytest.raises(DamagedFile, match="table.csv cannot be used: .* edited or damaged"):
        require_recorded(path)
    require_recorded(tmp_path / "without.csv")


def test_records_stay_readable_for_others(tmp_path):
    write_json(tmp_path / "x.json", {"b": 1, "a": [0.5]})
    written = json.loads((tmp_path / "x.json").read_text())
    assert list(written) == ["b", "a", "digest"] and written["a"] == [0.5]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "y.json", {"a": float("nan")})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


OWN_READERS = r"pq\.(read_|ParquetFile)|safe_open|torch\.load\(|\bload_file\("
FOREIGN = ("v2l/io/state_dicts.py", "v2l/io/pickles.py", "v2l/assets/conversions.py")  # files of others, with no digest


def test_no_file_of_the_pipeline_is_read_past_its_digest():
    """One reader for each format, in `v2l/io`."""
    found = {path.as_posix() for path in Path("v2l").rglob("*.py") if re.search(OWN_READERS, path.read_text())}
    assert found - set(FOREIGN) == {"v2l/io/storage.py", "v2l/io/checkpoints.py"}
