"""A run whose names, captions and questions are written to be executed: tables are made, nothing runs."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests import tiny
from tests.conftest import Project, is_thorough
from tests.faults.jobs import JobServer, list_jobs

MARK = "RAN"
CLASSES = [
    "<script>document.title='RAN'</script>",
    "=cmd|' /C touch RAN'!A0",
    "{params.config} {} $(touch RAN) `touch RAN`",
    '"; \\input{/etc/passwd} | & \\write18{touch RAN} #',
]
FILES = [
    "$(touch RAN).JPEG",
    "`touch RAN`.JPEG",
    "{params} {0!r}.JPEG",
    "'; touch RAN; '.JPEG",
    "=HYPERLINK(1).JPEG",
    "<img src=x onerror=alert(1)>.JPEG",
    "two\nlines.JPEG",
    "tab\tand \x1b[31mred.JPEG",
    "-rf *.JPEG",
    "+1.JPEG",
    "%s %n.JPEG",
    " leading and trailing .JPEG",
]
CAPTIONS = [
    "=1+1",
    "<script>touch RAN</script>",
    "{caption} {0.__class__}",
    "$(touch RAN)",
    "two\nlines\r\nand more",
    "@SUM(1)",
    "\\immediate\\write18{touch RAN}",
    "\x1b]0;title\x07 \u202eright to left",
]


def write_hostile(models: Path, folder: Path) -> None:
    """The tiny experiment's data in `folder` with hostile texts in every place that takes one, and its models."""
    folder.mkdir()
    for path in models.iterdir():
        if path.name not in ("imagenet", "mini-imagenet", "coco"):
            (folder / path.name).symlink_to(path)
    tiny.write_imagenet(folder / "imagenet")
    lines = [f"{wnid} {name}\n" for wnid, name in zip(tiny.SYNSETS, CLASSES, strict=True)]
    (folder / "imagenet/LOC_synset_mapping.txt").write_text("".join(lines))
    hostile = iter(FILES)
    for wnid in tiny.SYNSETS:
        for split, count in (("train", 2), ("val", 1)):
            found = sorted(path for path in (folder / "imagenet" / split / wnid).iterdir() if "999" not in path.name)
            for path in found[:count]:
                path.rename(path.with_name(next(hostile)))
    tiny.write_mini_imagenet(folder / "mini-imagenet")
    write_coco(folder / "coco")


def write_coco(folder: Path) -> None:
    tiny.write_coco(folder)
    captions = json.loads((folder / "captions_val2014.json").read_text())
    for image, name in zip(captions["images"], FILES, strict=False):
        (folder / "val2014" / image["file_name"]).rename(folder / "val2014" / name)
        image["file_name"] = name
    for item in captions["annotations"]:
        item["caption"] = CAPTIONS[item["id"] % len(CAPTIONS)]
    (folder / "captions_val2014.json").write_text(json.dumps(captions))
    questions = json.loads((folder / "questions.json").read_text())
    for item in questions["questions"]:
        item["question"] = f"{CAPTIONS[item['image_id']]}?"
    (folder / "questions.json").write_text(json.dumps(questions))
    # VQAv2 takes its pictures by COCO's names.
    tiny.write_coco(folder / "named")
    for path in (folder / "named/val2014").iterdir():
        path.rename(folder / "val2014" / path.name)
    shutil.rmtree(folder / "named")


def test_nothing_in_names_and_captions_is_executed(tiny_folder, tiny_run, tmp_path, pytestconfig):
    if not is_thorough(pytestconfig):
        pytest.skip("a whole run: `pytest -m faults`")
    folder = tmp_path / "project"
    folder.mkdir()
    Project(folder)
    write_hostile(tiny_folder, folder / "tiny")
    with JobServer(folder, tmp_path / "said") as server:
        for job in list_jobs(folder):
            for name in [*job.outputs, *([job.log] if job.log else [])]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            ended = server.run(job)
            assert ended.status == 0, f"{job.command}\n{ended.output}"
            assert "\x1b[31m" not in ended.output and "\nlines" not in ended.output
    assert not [path for path in folder.rglob("*") if path.name == MARK]
    tables = sorted((folder / "results").glob("table*.csv"))
    assert len(tables) == 5 and all(len(pd.read_csv(path)) for path in tables)
    for path in tables:
        expected = pd.read_csv(tiny_run.folder / "results" / path.name)
        assert list(pd.read_csv(path).columns) == list(expected.columns)
    for path in folder.glob("results/figures/*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
