"""What an unfinished run keeps for the next start goes bad: it is passed over, and the results are the same."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import is_thorough
from tests.faults.conftest import OF_STAGE, Scene
from tests.faults.damage import DAMAGES, damaged

SEED = 17
KEPT = {"train_tokenizer": "step-*.pt", "finetune_llm": "step-*.pt", "evaluate_llm": "batches.*.jsonl"}


def pytest_generate_tests(metafunc):
    if "repeat" in metafunc.fixturenames:
        metafunc.parametrize("repeat", range(3 if is_thorough(metafunc.config) else 1))


def progress(scene: Scene, stage: str) -> list[Path]:
    """What the unfinished run of a stage keeps."""
    folder = scene.folder / "work/tiny" / stage
    try:
        return [path for path in folder.rglob(KEPT[stage]) if path.is_file() and path.stat().st_size > 1]
    except FileNotFoundError:  # the job that is looked at removes a folder meanwhile
        return []


@pytest.fixture(scope="module")
def interrupted(finished_scene, tiny_run, tmp_path_factory) -> dict[str, Path]:
    """Stage -> a copy of work/ as a SIGKILL left it, once there was something to go on from."""
    copies = {}
    for stage in KEPT:
        job = finished_scene.job(OF_STAGE[stage])
        finished_scene.forget(job)
        running = finished_scene.server.start(job)
        while not progress(finished_scene, stage):
            assert not running.has_ended(), running.wait().output
            time.sleep(0.001)
        running.send(signal.SIGKILL)
        assert running.wait().status == -signal.SIGKILL
        copies[stage] = tmp_path_factory.mktemp(stage) / "work"
        shutil.copytree(finished_scene.folder / "work", copies[stage])
        finished_scene.restore()
    return copies


@pytest.mark.parametrize("stage", KEPT)
@pytest.mark.parametrize("kind", [None, *DAMAGES])
def test_damaged_progress_is_passed_over(scene, interrupted, stage, kind, repeat):
    shutil.rmtree(scene.folder / "work")
    shutil.copytree(interrupted[stage], scene.folder / "work")
    paths = progress(scene, stage)
    assert paths
    for path in paths if kind else []:
        damaged(path, kind, f"{SEED} {path.name} {repeat}")
    ended = scene.run(scene.job(OF_STAGE[stage]))
    assert ended.status == 0 and "Traceback" not in ended.output, ended.output
    assert not scene.changed(), ended.output


@pytest.mark.parametrize("folder", ["file_hashes", "claims"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_notes_about_files_change_nothing(scene, interrupted, folder, kind):
    shutil.rmtree(scene.folder / "work")
    shutil.copytree(interrupted["train_tokenizer"], scene.folder / "work")
    paths = [path for path in (scene.folder / "work" / folder).iterdir() if path.is_file()]
    assert paths
    for path in paths:
        damaged(path, kind, f"{SEED} {path.name}")
    ended = scene.run(scene.job(OF_STAGE["train_tokenizer"]))
    assert ended.status == 0 and "Traceback" not in ended.output, ended.output
    assert not scene.changed()
