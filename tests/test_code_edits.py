"""Edits of the code: those of what a module does run the jobs again that use it, those of how it is written none."""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Project
from tests.dry_runs import DryRuns, below, running

pytestmark = pytest.mark.pipeline

NOTHING = ()
FIGURES = "make_figures "
# Module -> patterns of the jobs (`rule output`) that use it; those below run as well.
EDITS: dict[str, tuple[str, ...]] = {
    "fetch_assets": NOTHING,  # what was downloaded is checked against the lock
    "decode_images": NOTHING,  # here no picture is decoded beforehand
    "index_images": ("index_images ",),
    "expand_vocabulary": ("expand_vocabulary ",),
    "embed_vocabulary": ("embed_vocabulary ",),
    "embed_images": ("embed_images ",),
    "filter_vocabulary": ("filter_vocabulary ",),
    "train_tokenizer": NOTHING,  # no edit costs a retraining
    "extract_tokens": ("extract_tokens ",),
    "finetune_llm": ("finetune_llm ",),
    "evaluate_llm": ("evaluate_llm ",),
    "reconstruct_images": ("reconstruct_images",),
    "score_predictions": ("score_predictions_",),
    "make_tables": ("make_tables ",),
    "make_figures": (FIGURES,),
    "make_report": NOTHING,  # `all` has no report
    "data/layouts": ("index_images .*imagenet.parquet",),
    "data/annotations": ("index_images .*/(coco-captions|vqa-v2).parquet",),
    "data/geometry": ("index_images ", "embed_vocabulary "),  # what of an image is seen
    "models/vqgan": ("(extract_tokens|reconstruct_images) .*/vqgan/",),
    "models/spae": ("(extract_tokens|reconstruct_images) .*/spae/",),
    "llm/engine": ("expand_vocabulary ", "evaluate_llm "),
    "tasks/classification": ("evaluate_llm .*/classification",),
    "tasks/captioning": ("evaluate_llm .*/captioning",),
    "tasks/vqa": ("evaluate_llm .*/vqa",),
    "tasks/masked": ("evaluate_llm .*/masked",),
    "tasks/restoration": ("evaluate_llm .*/restoration",),
    "metrics/vqa_accuracy": ("score_predictions_answers .*/vqa",),
    "metrics/image_quality": ("score_predictions_images ",),
    "configuration/config": NOTHING,  # keys reach a job by its slice
    "configuration/baselines": ("make_tables ", FIGURES),
    "configuration/metrics": ("make_tables ",),
    "figures/image_grids": ("make_figures .*/(reconstruction|restoration|masked)[.]",),
}


@contextmanager
def edited(project: Project, edits: dict[str, str]) -> Iterator[None]:
    """The project with another text in the files of `edits`; afterwards as before."""
    originals = {project.folder / name: (project.folder / name).read_text() for name in edits}
    try:
        for name, text in edits.items():
            (project.folder / name).write_text(text)
        yield
    finally:
        for path, text in originals.items():
            path.write_text(text)


def test_every_stage_has_its_edit():
    from v2l.pipeline.stages import STAGES

    assert set(STAGES) <= set(EDITS)


@pytest.mark.parametrize("module", EDITS)
def test_an_edit_of_what_a_module_does_runs_the_jobs_that_use_it(finished, dry_runs, whole, module):
    name = f"v2l/{module}.py"
    with edited(finished, {name: (finished.folder / name).read_text() + "\n_EDITED = True\n"}):
        plan = dry_runs.plan("--config", "experiment=tiny")
    assert running(plan) == below(plan or whole, EDITS[module])


def respelled(source: str) -> str:
    """A module's text in another form, with other docstrings and a comment."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Expr(ast.Constant("Another text."))
    return f"{ast.unparse(tree)}\n# the end\n"


def test_docstrings_comments_and_formatting_run_nothing(finished, dry_runs):
    paths = (finished.folder / "v2l").rglob("*.py")
    texts = {str(path.relative_to(finished.folder)): respelled(path.read_text()) for path in paths}
    assert len(texts) > 250
    with edited(finished, texts):
        assert running(dry_runs.plan("--config", "experiment=tiny")) == set()


def test_new_and_renamed_modules_run_nothing(finished, dry_runs):
    """Those below training, too: `training.log`, and one that every stage imports."""
    renamed = {"io.atomic": "io.whole_files", "training.log": "training.progress_log", "data.images": "data.pixels"}
    folder, texts = finished.folder / "v2l", {}
    for path in folder.rglob("*.py"):
        text = path.read_text()
        for old, new in renamed.items():
            text = re.sub(rf"\bv2l\.{re.escape(old)}\b", f"v2l.{new}", text)
        if text != path.read_text():
            texts[str(path.relative_to(finished.folder))] = text
    files = {name.replace(".", "/"): new.replace(".", "/") for name, new in renamed.items()}
    assert len(texts) > 20
    with edited(finished, texts):
        further = folder / "training/further.py"
        try:
            further.write_text("VALUE = 1\n")
            for old, new in files.items():
                (folder / f"{old}.py").rename(folder / f"{new}.py")
            assert running(dry_runs.plan("--config", "experiment=tiny")) == set()
        finally:
            further.unlink()
            for old, new in files.items():
                (folder / f"{new}.py").rename(folder / f"{old}.py")


# What the workflow itself computes with: module, its text before and after, patterns of the jobs.
BEHIND_THE_SLICES = {
    "another implementation of a task": (
        "configuration/restoration_tasks",
        "corruptions:Shift",
        "corruptions:Rotation",
        ("(extract_tokens|evaluate_llm|reconstruct_images.*) .*/restoration",),
    ),
    "another share of a run in its section": (
        "configuration/run_settings",
        "{name: count for",
        "{name: count + 1 for",
        (r"(evaluate_llm|reconstruct_images) .*/(vqgan|lqae|spae)/.*restoration",),
    ),
    "another geometry of a network": (
        "data/geometry",
        "resize_via=network.resize_via",
        "resize_via=None",
        ("extract_tokens ", "reconstruct_images"),
    ),
    "another registry": ("configuration/registry", "n=1)", "n=2)", ("embed_", "extract_tokens ", "evaluate_llm ")),
}


@pytest.mark.parametrize("edit", BEHIND_THE_SLICES)
def test_an_edit_behind_the_slices_runs_what_depends_on_it(finished, edit):
    module, old, new, patterns = BEHIND_THE_SLICES[edit]
    name = f"v2l/{module}.py"
    text = (finished.folder / name).read_text()
    assert old in text
    with edited(finished, {name: text.replace(old, new)}), DryRuns(finished.folder) as runs:
        plan = runs.plan("--config", "experiment=tiny")
    expected, found = below(plan, patterns), running(plan)
    assert expected and (found == expected if module.endswith("_tasks") else found >= expected)
