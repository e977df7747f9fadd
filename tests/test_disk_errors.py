"""What a disk refuses is one line that names the file and the way out, whichever library wrote."""

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tests.conftest import ROOT
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.checkpoints import newest_checkpoint, save_checkpoint
from v2l.io.claims import FOLDER, claimed
from v2l.io.disk_errors import disk_error, disk_errors_named

# How the system and the libraries tell of a disk; texts as their versions here print them.
TOLD = [
    (OSError(errno.ENOSPC, "No space left on device"), "out.x cannot be written or read: no space left on device"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "out.x cannot be written or read: disk quota exceeded"),
    (PermissionError(errno.EACCES, "Permission denied", "other"), "other cannot be written or read: permission denied"),
    (OSError(errno.EROFS, "Read-only file system", b"a\xff"), r"a\xff cannot be written or read: read-only file"),
    (OSError(errno.EROFS, "x", "/a/.out.x.part-12345678/out.x"), "out.x cannot be written or read: read-only file"),
    (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left"), "out.x cannot be written"),
    (
        SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"),
        "out.x cannot be written or read: disk quota exceeded",
    ),
]


@pytest.mark.parametrize(("error", "expected"), TOLD)
def test_each_library_s_error_becomes_a_line(tmp_path, error, expected):
    with pytest.raises(UserError) as caught, disk_errors_named(tmp_path / "out.x"):
        raise error
    assert expected in str(caught.value) and "\n" not in str(caught.value) and "and run again" in caught.value.remedy


def test_an_error_behind_another_is_found():
    with pytest.raises(UserError, match="x cannot be written or read: no space"), disk_errors_named(Path("x")):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 576 vs 534")  # torch, when it closes what it could not write


@pytest.mark.parametrize("error", [ValueError("bad"), FileNotFoundError(errno.ENOENT, "none", "x"), KeyError("a")])
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)), disk_errors_named(tmp_path):
        raise error
    refusal = UserError("a", "b", "c")
    refusal.__cause__ = OSError(errno.ENOSPC, "x")
    assert disk_error(error) is None and disk_error(refusal) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_stage_ends_with_one_line(tmp_path, number):
    """Also if the library that met the disk is none of those above: the last line of the log says it."""
    script = (
        "import sys\nfrom v2l import make_tables\nfrom v2l.pipeline.stage import run_stage\n"
        f"def run(*_): raise OSError({number}, 'x', 'results/x')\n"
        "run.__module__ = 'v2l.make_tables'\nrun_stage(run)"
    )
    done = stage(script, tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    line = f"make_tables: error: results/x cannot be written or read: {os.strerror(number).lower()}. Expected: "
    assert done.stderr.startswith(line)


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "logs").touch()
    script = "from v2l.pipeline.stage import run_stage\nfrom v2l.make_tables import run\nrun_stage(run)"
    done = stage(script, tmp_path, "--log", "logs/x.log")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "logs" in done.stderr


def stage(script, folder, *arguments):
    command = [sys.executable, "-c", script, "--config", "{}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


FULL = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, torch
from v2l.errors import UserError
from v2l.io.checkpoints import save_checkpoint
from v2l.io.json_records import write_json
from v2l.io.pixel_files import create_pixels
from v2l.io.storage import parquet_writer, write_parquet, write_tensors
from v2l.llm.journal import Journal

values = torch.rand(20_000)
table = pa.table({"a": values.numpy()})
def stream(path):
    with parquet_writer(path, table.schema, {}) as writer:
        for _ in range(5):
            writer.write_table(table)
def journal(path):
    with Journal("asking", 1, path) as kept:
        kept.add(["a"], [list(range(5000))])
def pixels(path):
    path.parent.mkdir(exist_ok=True)
    create_pixels(path, (100, 20, 20, 3))
writers = {
    "table.parquet": lambda path: write_parquet(path, table, {}),
    "stream.parquet": stream,
    "x.safetensors": lambda path: write_tensors(path, {"a": values}, {}),
    "step-000000001.pt": lambda path: save_checkpoint(path.parent, 1, {"step": 1, "a": values}),
    "x.json": lambda path: write_json(path, {"a": values.tolist()}),
    "x.npy": pixels,
    "batches": journal,
}
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
for name, write in writers.items():
    try:
        write(Path("out") / name)
        print(name, "written")
    except UserError as error:
        print(name, "|", error)
"""


def test_every_writer_names_the_file_that_the_disk_refuses(tmp_path):
    """A limit of 8 kB for each file stands for a full disk: the kernel refuses in the midst of writing."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", FULL], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    for line in lines:
        name, _, said = line.partition(" | ")
        assert said.startswith(f"out/{name}") and "cannot be written or read: file too large. Expected: " in said, line
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left <= {"x.npy", "batches"}, "no part of an atomic file stays"


def test_an_output_that_cannot_be_claimed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(FOLDER))

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    with pytest.raises(UserError, match="work/claims cannot be written or read"), claimed([tmp_path / "out"]):
        pass
    with pytest.raises(UserError, match="cannot be written or read"), atomic_path(tmp_path / "out"):
        pass
    assert logging.raiseExceptions


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.ENOENT])
@pytest.mark.parametrize("reader", ["v2l.io.digests.open", "torch.load"])
def test_a_checkpoint_that_the_disk_withholds_ends_the_training(tmp_path, monkeypatch, number, reader):
    """It is no broken one, with which training goes on from an older one. One that is gone is passed over."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"step": step})
    reads = open if reader.endswith("open") else torch.load

    def refused(path, *arguments, **settings):
        if Path(path).name == "step-000000002.pt":
            raise OSError(number, os.strerror(number), str(path))
        return reads(path, *arguments, **settings)

    monkeypatch.setattr(reader, refused, raising=False)
    if number == errno.ENOENT:
        assert newest_checkpoint(tmp_path) == {"step": 1}
        return
    with pytest.raises(UserError, match="step-000000002.pt cannot be (written or )?read") as caught:
        newest_checkpoint(tmp_path)
    assert "\n" not in str(caught.value) and "and run again" in caught.value.remedy
