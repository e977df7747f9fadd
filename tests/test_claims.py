"""A run that was left behind writes nothing over what a later one makes."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.conftest import ROOT
from v2l.errors import UserError
from v2l.io import claims
from v2l.io.atomic import atomic_path
from v2l.io.claims import FOLDER, claimed, require_claim
from v2l.io.folder_locks import alone_in


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def tokens() -> list[Path]:
    return list(FOLDER.glob("[!.]*"))


LATER = """
import sys
from pathlib import Path
from v2l.io.claims import claimed
with claimed([Path("results/out.csv")]):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def later() -> subprocess.Popen:
    """Another process that claims the output, until its standard input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", LATER], env=environment, **pipes)
    assert process.stdout and process.stdout.readline() == "claimed\n"
    return process


@pytest.mark.parametrize("fate", ["running", "ended", "killed"])
def test_what_a_later_run_claimed_is_not_written(tmp_path, fate):
    output = tmp_path / "results/out.csv"
    with claimed([output]):
        with atomic_path(output) as temporary:
            temporary.write_text("mine")
        process = later()
        if fate == "killed":
            process.send_signal(signal.SIGKILL)
        if fate != "running":
            process.communicate()
        with pytest.raises(UserError, match="taken over by a run that began later"), atomic_path(output) as late:
            late.write_text("late")
        assert output.read_text() == "mine" and [path.name for path in output.parent.iterdir()] == ["out.csv"]
        process.communicate()


SLEEPER = """
import sys
from pathlib import Path
from v2l.io.claims import claimed
print("began", flush=True)
sys.stdin.readline()
with claimed([Path("results/out.csv")]):
    print("claimed", flush=True)
"""


@pytest.mark.parametrize("newer", ["running", "ended", "killed"])
def test_a_run_that_slept_before_its_claim_leaves_a_later_one_alone(tmp_path, newer):
    output = tmp_path / "results/out.csv"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], env=environment, **pipes)
    assert sleeper.stdout and sleeper.stdout.readline() == "began\n"
    process = later()
    if newer == "ended":
        process.communicate()
        output.parent.mkdir()
        output.write_text("newer")
    if newer == "killed":
        process.kill()
        process.wait()
    said, error = sleeper.communicate("\n")
    assert said == "" and "taken over by a run that began later" in error
    if newer == "running":
        assert len(tokens()) == 1, "the newer one's claim is left alone"
        process.communicate()


STALLED = """
import sys
from pathlib import Path
from v2l.io import claims
read = claims._claimant_ns
def stalling(path):
    found = read(path)
    print("read", flush=True)
    sys.stdin.readline()
    return found
claims._claimant_ns = stalling
with claims.claimed([Path("results/out.csv")]):
    print("claimed", flush=True)
"""
KEEPER = """
import sys
from pathlib import Path
from v2l.io.claims import claimed, require_claim
print("began", flush=True)
with claimed([Path("results/out.csv")]):
    print("claimed", flush=True)
    sys.stdin.readline()
    require_claim(Path("results/out.csv"))
    print("kept", flush=True)
"""


def test_a_run_that_stalls_within_its_claim_takes_nothing_from_a_later_one():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    older = subprocess.Popen([sys.executable, "-c", STALLED], env=environment, **pipes)
    assert older.stdout and older.stdout.readline() == "read\n"
    newer = subprocess.Popen([sys.executable, "-c", KEEPER], env=environment, **pipes)
    assert newer.stdout and newer.stdout.readline() == "began\n"
    time.sleep(1)  # in which it would claim if it did not wait
    assert older.communicate("\n")[0] == "claimed\n"
    assert newer.communicate("\n")[0] == "claimed\nkept\n"


def test_a_claim_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("v2l.io.folder_locks.PATIENCE_SECONDS", 0.1)
    with alone_in(FOLDER), pytest.raises(UserError, match="work/claims/.lock is held"), claimed([tmp_path / "out"]):
        pass
    with claimed([tmp_path / "out"]):
        pass


def test_a_disk_without_locks_and_a_lock_of_another_user_are_no_hindrance(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    def opened(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return os_open(path, flags, *mode)

    os_open = os.open
    monkeypatch.setattr("v2l.io.folder_locks.os.open", opened)
    monkeypatch.setattr("v2l.io.folder_locks.fcntl.flock", refused)
    with claimed([tmp_path / "out"]):
        assert len(tokens()) == 1


def test_where_nothing_is_claimed_nothing_is_written():
    with claimed([]):
        assert not FOLDER.exists()


def test_what_an_earlier_run_writes_is_no_hindrance(tmp_path):
    output = tmp_path / "results/out.csv"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    newer = subprocess.Popen([sys.executable, "-c", SLEEPER], env=environment, **pipes)
    assert newer.stdout and newer.stdout.readline() == "began\n"
    with claimed([output]), atomic_path(output) as temporary:
        temporary.write_text("written once the newer one had begun, and before its claim")
    assert newer.communicate("\n")[0] == "claimed\n"


def test_a_run_that_failed_is_followed_by_another(tmp_path):
    output = tmp_path / "out.csv"
    with pytest.raises(ValueError), claimed([output]):
        raise ValueError
    require_claim(output)
    later().communicate()
    with pytest.raises(UserError, match="taken over"), claimed([tmp_path / "results/out.csv"]):
        pass


@pytest.mark.parametrize("damaged", [b"", b"\xff\xfe", b"-5 a", "\N{SUPERSCRIPT TWO} a".encode(), b"99", b"9" * 30])
def test_damaged_claims_are_passed_over(tmp_path, damaged):
    output = tmp_path / "out.csv"
    with claimed([output]):
        pass
    tokens()[0].write_bytes(damaged)
    with claimed([output]), atomic_path(output) as temporary:
        temporary.write_text("made")
    assert output.read_text() == "made"


def test_what_no_job_claimed_is_written(tmp_path):
    with claimed([tmp_path / "out.csv"]), atomic_path(tmp_path / "beside.json") as temporary:
        temporary.write_text("{}")
    assert (tmp_path / "beside.json").read_text() == "{}"


def test_a_process_that_is_held_up_between_two_clocks_grows_no_older(monkeypatch):
    read, readings = time.time_ns, iter([0.05])

    def held_up() -> int:
        now = read()
        time.sleep(next(readings, 0))
        return now

    expected = claims._began_ns()
    monkeypatch.setattr("v2l.io.claims.time.time_ns", held_up)
    assert abs(claims._began_ns() - expected) < claims.TOGETHER_NS // 2


@pytest.mark.parametrize(("later_ms", "refused"), [(15, False), (25, True)])
def test_processes_of_one_tick_are_of_one_age(tmp_path, monkeypatch, later_ms, refused):
    path, began = tmp_path / "out", time.time_ns() - 10**9
    monkeypatch.setattr(claims, "_began_ns", lambda: began + later_ms * 10**6)
    with claimed([path]):
        pass
    monkeypatch.setattr(claims, "_began_ns", lambda: began)
    with pytest.raises(UserError, match="began later") if refused else nullcontext(), claimed([path]):
        pass
