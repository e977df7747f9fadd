"""What killed runs leave is swept at the next start, and never taken from one that lives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from v2l.configuration.slices import StageConfig
from v2l.io import folder_locks
from v2l.io.atomic import atomic_path
from v2l.io.folder_locks import UNFINISHED, UNLOCKED_SECONDS, in_use, sweep_other_runs, sweep_unfinished
from v2l.pipeline.run_folder import run_folder

WRITER = """
import sys, time
from pathlib import Path
from v2l.io.atomic import atomic_path
with atomic_path(Path("out/table.csv")) as temporary:
    temporary.write_text("half")
    print(temporary.parent.name, flush=True)
    sys.stdin.read()
    temporary.write_text("whole")
"""


@pytest.fixture
def writer(tmp_path, monkeypatch):
    """Another process that writes `out/table.csv` until its standard input ends, and the folder it writes in."""
    monkeypatch.chdir(tmp_path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", WRITER], env=environment, **pipes)
    assert process.stdout
    folder = Path("out", process.stdout.readline().strip())
    assert UNFINISHED.fullmatch(folder.name) and (folder / "table.csv").read_text() == "half"
    yield process, folder
    process.kill()
    process.communicate()


def test_what_a_living_process_writes_stays(writer):
    process, folder = writer
    sweep_unfinished([Path("out")])
    assert (folder / "table.csv").exists()
    process.communicate()
    assert process.returncode == 0 and Path("out/table.csv").read_text() == "whole" and not folder.exists()


def test_what_a_stopped_process_writes_stays(writer):
    process, folder = writer
    process.send_signal(signal.SIGSTOP)
    sweep_unfinished([Path("out")])
    assert (folder / "table.csv").exists()
    process.send_signal(signal.SIGCONT)
    process.communicate()
    assert Path("out/table.csv").read_text() == "whole"


def test_what_a_killed_process_left_goes_and_is_named(writer, caplog):
    process, folder = writer
    Path("out/.keep.me").mkdir()
    Path("out/other.csv").touch()
    process.kill()
    process.wait()
    caplog.set_level("INFO")
    sweep_unfinished([Path("out"), Path("nowhere")])
    assert sorted(path.name for path in Path("out").iterdir()) == [".keep.me", "other.csv"]
    assert caplog.messages == [f"removed {folder}, which an earlier run left unfinished"]


def test_every_start_of_a_stage_sweeps_beside_its_outputs(writer):
    process, folder = writer
    process.kill()
    process.wait()
    script = "from v2l import make_tables\nfrom v2l.pipeline.stage import run_stage\n"
    script += "def run(*_): pass\nrun.__module__ = 'v2l.make_tables'\nrun_stage(run)"
    command = [sys.executable, "-c", script, "--config", "{}", "--output", "csv", "out/table.csv"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0 and f"make_tables: removed {folder}" in done.stderr and not folder.exists()


KEYS = ["0123456789abcdef", "fedcba9876543210"]


def test_folders_of_runs_with_other_keys_go_unless_they_are_in_use(tmp_path):
    for name in (KEYS[0], KEYS[1], "compiled"):
        with in_use(tmp_path / name):
            (tmp_path / name / "state").touch()
    with in_use(tmp_path / "ffffffffffffffff"):
        sweep_other_runs(tmp_path / KEYS[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == [KEYS[0], "compiled", "ffffffffffffffff"]
    sweep_other_runs(tmp_path / "x" / KEYS[0])


def test_a_run_that_may_wait_in_a_queue_keeps_its_folder(tmp_path):
    for name in (KEYS[0], "eeeeeeeeeeeeeeee.slurm"):
        with in_use(tmp_path / name):
            pass
    sweep_other_runs(tmp_path / KEYS[1])
    assert (tmp_path / KEYS[0]).exists()


def test_hidden_folders_of_one_output_do_not_count_for_another(tmp_path):
    for name in (f".a.npy.{KEYS[0]}", f".a.npy.{KEYS[1]}", f".b.npy.{KEYS[1]}"):
        with in_use(tmp_path / name):
            pass
    sweep_other_runs(tmp_path / f".a.npy.{KEYS[0]}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".a.npy.{KEYS[0]}", f".b.npy.{KEYS[1]}"]


def test_a_folder_without_a_lock_goes_when_it_is_old(tmp_path):
    for name, age in ((KEYS[0], 0), (KEYS[1], UNLOCKED_SECONDS + 1)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep_other_runs(tmp_path / "ffffffffffffffff")
    assert [path.name for path in tmp_path.iterdir()] == [KEYS[0]]


def test_on_a_disk_without_locks_work_goes_on_and_nothing_is_swept(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folder_locks.fcntl, "flock", refused)
    with in_use(tmp_path / KEYS[0]):
        pass
    with atomic_path(tmp_path / "out") as temporary:
        temporary.write_text("whole")
    sweep_other_runs(tmp_path / KEYS[1])
    assert (tmp_path / KEYS[0]).exists() and (tmp_path / "out").read_text() == "whole"


def test_a_changed_job_sweeps_what_an_interrupted_one_left_and_an_unchanged_one_goes_on(tmp_path):
    work, logs = tmp_path / "work", tmp_path / "logs"
    found: list[set[str]] = []

    def interrupted(seed: int) -> Path:
        config = StageConfig("evaluate_llm", {"seed": seed, "job": {"work": str(work), "logs": str(logs)}})
        with run_folder(config, {"inputs": {}}) as folder:
            found.append({path.name for place in (folder, logs) if place.exists() for path in place.iterdir()})
            (folder / str(seed)).touch()
            for left in (folder / ".x.pt.part-12345678", logs / ".x.png.part-12345678"):
                with in_use(left):
                    pass
        return folder

    first = interrupted(1)
    assert interrupted(1) == first and found[1] == {".lock", "1"}
    second = interrupted(2)
    assert second != first and list(work.iterdir()) == [second] and found[2] == {".lock"}
