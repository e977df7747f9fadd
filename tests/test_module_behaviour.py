"""What counts as a change of a module's behaviour, and what does not."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2l.pipeline import code_files, module_behaviour
from v2l.pipeline.code_files import code_of
from v2l.pipeline.module_behaviour import PACKAGE, Import, behaviour, behaviour_of

SOURCE = '''
"""A module."""

import os

from v2l.io.atomic import atomic_path
from v2l.tasks import cells as shown, vqa


class Scale:
    """Sizes."""

    factor: int = 2
    """Of what."""

    def apply(self, value):
        """Doubled."""
        import v2l.runtime

        return {"a": value * self.factor, 'b': os.sep}  # as is
'''
SAME = {
    "comments": SOURCE.replace("# as is", "# is as it is"),
    "docstrings": SOURCE.replace("Sizes.", "How big.").replace('        """Doubled."""\n', ""),
    "quotes and lines": SOURCE.replace("'b'", '\n            "b"').replace("import os\n\n", "import os\n\n\n"),
    "order of imports": SOURCE.replace("from v2l.tasks import cells as shown, vqa", "").replace(
        "from v2l.io", "from v2l.tasks import vqa\nfrom v2l.tasks import cells as shown\nfrom v2l.io"
    ),
}
OTHER = {
    "a constant": SOURCE.replace("= 2", "= 3"),
    "a text": SOURCE.replace('"a"', '"A"'),
    "a type": SOURCE.replace("factor: int", "factor: float"),
    "an import": SOURCE.replace("import os", "import os, sys"),
    "an import of ours": SOURCE.replace("vqa", "captioning"),
    "its name": SOURCE.replace("as shown", "as seen"),
    "a base": SOURCE.replace("class Scale:", "class Scale(dict):"),
    "a statement": SOURCE + "\nprint(Scale)\n",
}


@pytest.mark.parametrize("edit", SAME)
def test_texts_and_spelling_are_no_behaviour(edit):
    assert SAME[edit] != SOURCE and behaviour_of(SAME[edit]) == behaviour_of(SOURCE)


@pytest.mark.parametrize("edit", OTHER)
def test_everything_else_is(edit):
    assert behaviour_of(OTHER[edit]) != behaviour_of(SOURCE)


def test_imports_of_the_package_are_found_wherever_they_stand():
    found = behaviour_of(SOURCE).imports
    assert found == (
        Import("v2l.io.atomic", "atomic_path", "atomic_path"),
        Import("v2l.runtime", "", "v2l.runtime"),
        Import("v2l.tasks", "cells", "shown"),
        Import("v2l.tasks", "vqa", "vqa"),
    )
    files = {path.relative_to(PACKAGE).as_posix() for item in found for path in item.files}
    assert files == {"io/atomic.py", "runtime.py", "tasks/__init__.py", "tasks/cells.py", "tasks/vqa.py"}


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])), st.integers(0, 8))
def test_any_comment_anywhere_is_no_behaviour(text, line):
    lines = SOURCE.splitlines()
    lines.insert(line, f"# {text}")
    assert behaviour_of("\n".join(lines)) == behaviour_of(SOURCE)


def test_every_module_of_the_package_keeps_its_behaviour_without_its_docstrings_and_comments():
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text()
        assert behaviour_of(ast.unparse(ast.parse(source))) == behaviour_of(source), path


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Iterator[Path]:
    monkeypatch.setattr(module_behaviour, "CACHE", tmp_path / "work/digests.json")
    kept = (code_of, code_files._with_imports, code_files.imported_files)
    caches = (module_behaviour._known, module_behaviour._kept, *kept)
    for cached in caches:
        cached.cache_clear()
    yield tmp_path / "work/digests.json"
    for cached in caches:
        cached.cache_clear()


def test_what_was_read_is_kept_and_read_again_after_an_edit(cache, tmp_path, monkeypatch):
    path = tmp_path / "module.py"
    path.write_text("VALUE = 1\n")
    first = behaviour(path)
    module_behaviour.keep_behaviours()
    assert str(path) in json.loads(cache.read_text())
    module_behaviour._known.cache_clear(), module_behaviour._kept.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(module_behaviour, "behaviour_of", lambda source: pytest.fail("is known"))
        assert behaviour(path) == first
    path.write_text("VALUE = 2\n")
    assert behaviour(path) != first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": [[1], "b", [["c"]]]}', b"\xff\0"])
def test_a_damaged_cache_counts_for_none(cache, content):
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert code_of(("v2l.expand_vocabulary",)).modules
    assert "v2l" in cache.read_text()


def test_a_folder_that_cannot_be_written_costs_time_alone(cache):
    cache.parent.write_text("a file in its place")
    assert set(code_of(("v2l.expand_vocabulary",)).modules) == set(code_files.code_files(["v2l.expand_vocabulary"]))


def test_another_thing_of_the_same_module_is_other_code():
    names = [("v2l.reconstruct_images", f"v2l.tasks.corruptions:{name}") for name in ("Inpainting", "Shift")]
    inpainting, shift = map(code_of, names)
    assert inpainting.modules == shift.modules and inpainting.digest != shift.digest
