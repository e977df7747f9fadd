"""Input files by name: one path, or explicitly several."""

from pathlib import Path

import pytest

from v2l.io.job_files import Inputs

ONE, TWO = Path("a"), Path("b")


def test_one_path_is_a_path_and_several_are_asked_for():
    inputs = Inputs({"tokens": ONE, "metrics": [ONE, TWO], "none": []})
    assert inputs["tokens"] == ONE and inputs.files("tokens") == [ONE] and inputs.files("metrics") == [ONE, TWO]
    assert "none" not in inputs and inputs.files("none") == [] and set(inputs) == {"tokens", "metrics"}


def test_a_name_of_several_files_is_no_path():
    with pytest.raises(ValueError, match="'metrics' stands for 2 files"):
        Inputs({"metrics": [ONE, TWO]})["metrics"]


def test_a_list_of_one_reads_like_a_path():
    assert Inputs({"images": [ONE]})["images"] == ONE
