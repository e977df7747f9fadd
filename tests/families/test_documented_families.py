"""docs/bring-your-own.md lists exactly the families that are tried, with their verdicts."""

from pathlib import Path

import pytest

from tests.families.architectures import SUPPORTED, UNPADDED
from tests.families.documented import refused, supported


@pytest.mark.parametrize("table", [supported, refused])
def test_the_table_is_that_of_the_tests(table):
    page = Path("docs/bring-your-own.md").read_text()
    assert "\n".join(table()) in page, "put in what `python -m tests.families.documented` prints"


def test_there_are_many_architectures():
    assert len({family.network for family in SUPPORTED.values()}) >= 25 and set(SUPPORTED) > UNPADDED
