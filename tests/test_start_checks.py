"""Before the configuration is read: nothing in it, or in the name of the project's folder, is executed."""

import subprocess
from pathlib import Path

import pytest

from v2l.errors import UserError
from v2l.pipeline.job_commands import job_environment
from v2l.pipeline.start_checks import check_start

HOSTILE = "?if True:\n  experiment: tiny\n__use_yte__: "


@pytest.mark.parametrize("name", ["plain", "my project", "a$(touch x)b", "it's", 'a"b', "a;touch x;b", "a`touch x`b"])
def test_any_folder_name_stays_a_name_in_the_shell(tmp_path, name):
    programs = tmp_path / name
    programs.mkdir()
    (programs / "answer").write_text("#!/bin/sh\necho $WORD\n")
    (programs / "answer").chmod(0o755)
    command = job_environment(programs, {"WORD": name}).format() + 'answer; printf %s "$WORD"'
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.endswith(name) and not result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_with_braces_is_refused(tmp_path):
    with pytest.raises(UserError, match="a{b}c.*has braces.*rename it"):
        check_start(tmp_path / "a{b}c", tmp_path / "config.yaml")


@pytest.mark.parametrize("text", [HOSTILE + "true", HOSTILE + "false", "<<: {__use_yte__: true}"])
def test_a_configuration_that_asks_to_be_executed_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match="config.yaml has the key `__use_yte__`.*take the key out"):
        check_start(tmp_path, tmp_path / "config.yaml")


@pytest.mark.parametrize("text", [b"a: [", b"\xff\xfe", b"a: !!python/tuple [1]", b"[" * 3000])
def test_what_is_not_yaml_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises(UserError, match="config.yaml is not YAML"):
        check_start(tmp_path, tmp_path / "config.yaml")


def test_other_configurations_pass(tmp_path):
    check_start(tmp_path, tmp_path / "config.yaml")
    for text in ("", "experiment: tiny", "[]"):
        (tmp_path / "config.yaml").write_text(text)
        check_start(tmp_path, Path(tmp_path / "config.yaml"))
