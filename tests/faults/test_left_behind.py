"""Jobs that outlive their Snakemake, and Snakemakes that are killed or started twice."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Project, is_thorough
from tests.faults.conftest import OF_STAGE, forget

SEED = 15


def pytest_generate_tests(metafunc):
    if "stopped" in metafunc.fixturenames:
        metafunc.parametrize("stopped", range(3 if is_thorough(metafunc.config) else 1))
    if "killed" in metafunc.fixturenames:
        metafunc.parametrize("killed", OF_STAGE if is_thorough(metafunc.config) else ["train_tokenizer"])


def state(paths: list[Path]) -> list[tuple[int, int, bytes]]:
    """What tells a file from one that was written over it, even with the same bytes."""
    return [(path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in paths]


@pytest.mark.parametrize("stage", OF_STAGE)
def test_a_stopped_job_that_wakes_up_later_writes_nothing(scene, tiny_run, stage, stopped):
    job = scene.job(OF_STAGE[stage])
    scene.forget(job)
    seconds = scene.run(job).seconds
    scene.forget(job)
    old = scene.server.start(job)
    time.sleep(random.Random(f"{SEED} {stage} {stopped}").uniform(0.1, 0.9) * seconds)
    old.send(signal.SIGSTOP)
    newer = scene.run(job)
    assert newer.status == 0, newer.output
    outputs = [scene.folder / name for name in job.outputs]
    before = state(outputs)
    old.send(signal.SIGCONT)
    ended = old.wait()
    assert state(outputs) == before and not scene.changed()
    assert "Traceback" not in ended.output, ended.output
    if ended.status:
        assert "taken over by a run that began later" in ended.output


def snakemake(project: Project, *arguments: str) -> subprocess.Popen:
    """`snakemake ARGUMENTS` of the tiny experiment in the background."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--config", "experiment=tiny", "--cores", "2"]
    with open(project.folder / "said.txt", "w") as said:  # no pipe: orphans write on when nobody reads
        streams = {"stdout": said, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=project.folder, start_new_session=True, **streams)


def begins(path: Path, process: subprocess.Popen) -> bool:
    """Wait until `path` is there, while the process lives; whether it is."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
    return path.exists()


@pytest.fixture
def project(finished_scene, tiny_run, tmp_path_factory) -> Project:
    """A finished run to break."""
    return finished_scene.project.copy(tmp_path_factory.mktemp("left-behind"))


def results(project: Project) -> dict[str, bytes]:
    """Every file of the results that is not hidden."""
    folder = project.folder / "results"
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_killed_snakemake_is_unlocked_and_started_again(project, scene, killed, thorough):
    undisturbed, job = results(project), scene.job(OF_STAGE[killed])
    seconds, draw = scene.run(job).seconds, random.Random(f"{SEED} {killed}")
    forget(project.folder, job)
    log, locks, kills = project.folder / job.log, project.folder / ".snakemake/locks", 0
    while kills < (10 if thorough else 1):
        shutil.rmtree(locks, ignore_errors=True)  # as `--unlock` below does, in less time
        log.unlink(missing_ok=True)
        process = snakemake(project, *job.outputs)
        # A job that the last kill left behind may write the log.
        if begins(locks, process) and begins(log, process):
            time.sleep(draw.uniform(0, 0.8) * seconds)
            if kills % 3 == 0:
                process.kill()
            else:  # with its jobs, as when a machine goes down
                os.killpg(process.pid, signal.SIGKILL)
        if process.wait() == -signal.SIGKILL and any(locks.glob("*")):
            kills += 1
        else:  # this kill or the one before came when the job was done
            assert process.returncode in (0, -signal.SIGKILL)
            forget(project.folder, job)
    refused = project.snakemake(*job.outputs)
    assert refused.returncode != 0 and "--unlock" in refused.stdout, refused.stdout
    assert project.snakemake("--unlock").returncode == 0
    again = project.snakemake(*job.outputs)
    assert again.returncode == 0, again.stdout[-6000:]
    made = results(project)
    assert made.keys() == undisturbed.keys()
    assert [name for name in made if made[name] != undisturbed[name]] == []


def test_an_orphan_writes_nothing_over_what_an_edited_configuration_made(project, scene):
    job, undisturbed = scene.job(OF_STAGE["score_predictions"]), results(project)
    output, log = project.folder / job.outputs[0], project.folder / job.log
    output.unlink(), log.unlink(missing_ok=True)
    process = snakemake(project, str(output.relative_to(project.folder)))
    assert begins(log, process)
    orphans = job_processes(output.relative_to(project.folder))
    assert orphans
    for orphan in orphans:
        os.kill(orphan, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert project.snakemake("--unlock").returncode == 0
    edited = ["--config", "experiment=tiny", "score_predictions={bootstrap_samples: 60}"]
    again = project.snakemake(str(output.relative_to(project.folder)), *edited)
    assert again.returncode == 0, again.stdout[-6000:]
    newer = state([output])
    assert newer[0][2] != undisturbed[str(output.relative_to(project.folder / "results"))]
    for orphan in orphans:
        with contextlib.suppress(ProcessLookupError):  # the job had just forked it, and reaps it when it goes on
            os.kill(orphan, signal.SIGCONT)
    deadline = time.monotonic() + 120
    while job_processes(output.relative_to(project.folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (
        state([output]) == newer and "taken over by a run that began later" in (project.folder / "said.txt").read_text()
    )
    assert project.snakemake("results/table4_restoration.csv").returncode == 0
    made = results(project)
    assert [name for name in undisturbed if made[name] != undisturbed[name]] == []


def job_processes(output: Path) -> list[int]:
    """Processes of a stage that have `output` among their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(output).encode() in words and b"--log" in words:
                found.append(int(folder.name))
    return found


def test_of_two_starts_at_once_one_works_and_the_other_says_why_not(project, scene):
    job, undisturbed = scene.job(OF_STAGE["extract_tokens"]), results(project)
    for name in job.outputs:
        (project.folder / name).unlink()
    processes, said = [], []
    for _ in range(2):
        processes.append(snakemake(project, *job.outputs))
        (project.folder / "said.txt").rename(project.folder / f"said-{len(processes)}.txt")
    for number, process in enumerate(processes, start=1):
        process.wait()
        said.append((project.folder / f"said-{number}.txt").read_text())
    statuses = sorted(process.returncode for process in processes)
    assert statuses in ([0, 0], [0, 1]), said
    if statuses == [0, 1]:
        refused = said[[process.returncode for process in processes].index(1)]
        assert "cannot be locked" in refused and "Traceback" not in refused
    made = results(project)
    assert [name for name in undisturbed if made.get(name) != undisturbed[name]] == []
