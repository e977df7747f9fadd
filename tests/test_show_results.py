"""Results are shown as their stages wrote them, or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from v2l.errors import UserError
from v2l.io.records import write_beside
from v2l.pipeline.show_results import show_results


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def result(name: str, content: bytes) -> Path:
    path = Path(name)
    path.write_bytes(content)
    write_beside(path, {})
    return path


def test_one_file_is_copied_byte_for_byte():
    picture = result("a.png", b"\x89PNG\r\n\x00\xff\n\n")
    show_results([picture], Path("shown/a.png"))
    assert Path("shown/a.png").read_bytes() == picture.read_bytes()


def test_lists_have_one_header():
    lists = [
        result("a.csv", b"path,reason\na,b\n"),
        result("b.csv", b"path,reason\n"),
        result("c.csv", b"path,reason\nc,d\n"),
    ]
    show_results(lists, Path("all.csv"))
    assert Path("all.csv").read_bytes() == b"path,reason\na,b\nc,d\n"


@pytest.mark.parametrize("damaged", [b"", b"path,reason\na,c\n", b"path,reason\na,b\n\n"])
def test_what_is_not_as_its_record_says_is_named_and_not_shown(damaged):
    path = result("a.csv", b"path,reason\na,b\n")
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="a.csv cannot be used.*delete it and run again"):
        show_results([path], Path("shown.csv"))
    assert not Path("shown.csv").exists()


def test_the_program_says_in_one_line_what_is_wrong():
    result("a.csv", b"1\n").write_bytes(b"2\n")
    command = [sys.executable, "-m", "v2l.pipeline.show_results", "a.csv", "shown.csv"]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stderr.startswith("error: a.csv") and ended.stderr.count("\n") == 1
