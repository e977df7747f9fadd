"""A disk that is full, a limit on file sizes, a folder that is read only: one line, and after it the same bytes."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import ASSET, OF_STAGE
from tests.faults.jobs import Ended, Job

root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
WORK = {  # stages that keep what they have done so far
    "train_tokenizer": "work/tiny/train_tokenizer",
    "finetune_llm": "work/tiny/finetune_llm",
    "evaluate_llm": "work/tiny/evaluate_llm",
}


@pytest.fixture
def mount(tmp_path) -> Iterator[Callable[..., Callable[[], None]]]:
    """`mount(folder, options)` covers a folder with a tmpfs that holds the same files; it returns what takes it off."""
    mounted: list[Path] = []

    def off(folder: Path) -> None:
        subprocess.run(["umount", folder], check=True)
        mounted.remove(folder)

    def on(folder: Path, free: int, *, read_only: bool = False) -> Callable[[], None]:
        folder.mkdir(parents=True, exist_ok=True)
        kept = tmp_path / f"kept-{len(mounted)}"
        shutil.copytree(folder, kept)
        used = sum(path.stat().st_size // 4096 + 1 for path in kept.rglob("*") if path.is_file())
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={4096 * (used + free + 1)}", "tmpfs", folder],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {made.stderr.strip()}")
        mounted.append(folder)
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        if not read_only:
            fill(folder / ".filler", leave=free)
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        return lambda: off(folder)

    yield on
    for folder in list(mounted):
        off(folder)


def fill(path: Path, leave: int) -> None:
    """Take the room of a small file system, but for `leave` blocks of 4096 bytes."""
    found = os.statvfs(path.parent)
    blocks = found.f_bavail * found.f_frsize // 4096
    assert blocks < 10_000, "a small file system"
    if blocks > leave:
        path.write_bytes(bytes(4096 * (blocks - leave)))


def folder_of(job: Job) -> str:
    """The folder that a job's output goes to; an asset is a folder of its own."""
    parent = Path(job.outputs[0]).parent
    return str(parent.parent if ASSET in job.outputs else parent)


def assert_one_line(ended: Ended, *names: str) -> None:
    """The job ended in one message that holds one of `names`, without a traceback."""
    assert ended.status == 1, ended.output
    assert "Traceback" not in ended.output, ended.output
    errors = [line for line in ended.output.splitlines() if "error: " in line]
    assert len(errors) == 1, ended.output
    assert any(name in errors[0] for name in names), errors[0]
    assert "Expected: " in errors[0] and "What to do: " in errors[0]


@root
@pytest.mark.parametrize("stage", OF_STAGE)
def test_a_full_disk_is_one_line_and_room_lets_it_go_on(scene, tiny_run, mount, stage):
    job = scene.job(OF_STAGE[stage])
    scene.forget(job)
    folder = folder_of(job)
    off = mount(scene.folder / folder, free=0)
    ended = scene.server.run(job)
    left = [path.name for path in (scene.folder / folder).rglob("*") if path.suffix in (".part", ".tmp")]
    off()
    assert_one_line(ended, folder)
    assert not left
    assert scene.run(job).status == 0 and not scene.changed()


@root
@pytest.mark.parametrize("stage", WORK)
@pytest.mark.parametrize("free", [0, 1, 3])
def test_no_room_for_what_is_done_so_far_is_one_line(scene, tiny_run, mount, stage, free):
    job = scene.job(OF_STAGE[stage])
    off = mount(scene.folder / WORK[stage], free=free)
    ended = scene.run(job)
    off()
    if ended.status == 0:
        assert free, "there was no room at all"
    else:
        assert_one_line(ended, WORK[stage])
    assert scene.run(job).status == 0 and not scene.changed()


@root
@pytest.mark.parametrize("stage", OF_STAGE)
def test_a_read_only_folder_is_one_line(scene, tiny_run, mount, stage):
    job = scene.job(OF_STAGE[stage])
    scene.forget(job)
    folder = folder_of(job)
    off = mount(scene.folder / folder, free=8, read_only=True)
    ended = scene.server.run(job)
    off()
    assert_one_line(ended, folder)
    assert scene.run(job).status == 0 and not scene.changed()


@pytest.mark.parametrize("stage", [stage for stage in OF_STAGE if stage not in ("fetch_assets", "make_tables")])
def test_a_limit_on_file_sizes_is_one_line(scene, tiny_run, stage):
    job = scene.job(OF_STAGE[stage])
    largest = max((scene.folder / name).stat().st_size for name in job.outputs)
    ended = scene.run(job, RLIMIT_FSIZE=min(largest // 2, 3_000))
    assert_one_line(ended, "results/tiny", "work/tiny")
    assert scene.run(job).status == 0 and not scene.changed()
