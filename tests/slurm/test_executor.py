"""Snakemake's jobs on a real SLURM: nothing hangs, nothing runs twice, and what cannot run is said at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.slurm.cluster import end

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]


class Run:
    """A folder in which Snakemake runs tests/slurm/Snakefile with the project's site profile."""

    def __init__(self, folder: Path, cluster):
        self.folder, self.cluster, self.processes = folder, cluster, []
        self.profile(**{"slurm-init-seconds-before-status-checks": 1})

    def profile(self, resources: dict | None = None, **changes) -> None:
        """The shipped site profile with `changes`, and this cluster's partition."""
        site = yaml.safe_load((ROOT / "slurm" / "profile.v9+.yaml").read_text())
        site |= {"latency-wait": 5, "retries": 0} | changes
        del site["set-threads"]  # of a rule of the real workflow
        site["default-resources"] = {"slurm_partition": "main", "nodes": 1, "mem_mb": 200, "runtime": 5}
        site["default-resources"] |= resources or {}
        (self.folder / "slurm").mkdir(exist_ok=True)
        (self.folder / "slurm" / "profile.v9+.yaml").write_text(yaml.safe_dump(site))

    def start(self, target: str, seconds: float = 1, *more: str, **config) -> subprocess.Popen:
        values = {"repository": ROOT, "seconds": seconds} | config
        command = [sys.executable, "-m", "snakemake", target, "--profile", "slurm", "--rerun-incomplete", *more]
        command += ["--snakefile", str(ROOT / "tests" / "slurm" / "Snakefile")]
        command += ["--config", *[f"{key}={value}" for key, value in values.items()]]
        output = open(self.folder / "head.log", "w")  # noqa: SIM115
        kwargs = {"cwd": self.folder, "env": os.environ | self.cluster.environment, "start_new_session": True}
        self.processes.append(process := subprocess.Popen(command, stdout=output, stderr=output, **kwargs))
        return process

    def finish(self, process: subprocess.Popen, seconds: float = 120) -> str:
        """What Snakemake said; it must not hang."""
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"Snakemake hangs:\n{self.said()}\n{self.cluster.jobs()}")
        return self.said()

    def said(self) -> str:
        return (self.folder / "head.log").read_text()

    def started(self) -> list[str]:
        """SLURM job of every start of a rule's command."""
        path = self.folder / "started.log"
        return path.read_text().split() if path.exists() else []

    def wait_for_start(self, number: int = 1) -> str:
        def began():
            self.cluster.release()
            return len(self.started()) >= number

        self.cluster.wait(began, 90, f"start {number}")
        return self.started()[number - 1]


@pytest.fixture
def run(tmp_path, cluster):
    made = Run(tmp_path, cluster)
    yield made
    end(made.processes)


def test_jobs_end_where_accounting_is_switched_off(run, cluster):
    assert cluster.run("sacct", check=False).returncode != 0
    process = run.start("file.txt")
    said = run.finish(process)
    assert process.returncode == 0 and (run.folder / "file.txt").read_text() == "1\n", said
    assert "guess" not in said, "no account is looked for"


def test_gpus_are_of_one_node_and_visible(run):
    process = run.start("gpu.txt")
    assert run.finish(process) and process.returncode == 0
    assert (run.folder / "gpu.txt").read_text().split()[1] == "0,1"


def test_a_controller_that_is_away_for_30_seconds_loses_no_job(run, cluster):
    process = run.start("file.txt", 20)
    run.wait_for_start()
    cluster.stop_controller()
    time.sleep(30)
    cluster.start_controller()
    said = run.finish(process)
    assert process.returncode == 0 and len(run.started()) == 1, said


def test_a_failed_node_leads_to_one_more_start_of_the_same_job(run, cluster):
    process = run.start("file.txt", 8)
    job_id = run.wait_for_start()
    cluster.fail_node(cluster.run("squeue", "-h", "-j", job_id, "-o", "%N").stdout.strip())
    run.wait_for_start(2)
    said = run.finish(process)
    assert process.returncode == 0 and run.started() == [job_id, job_id], said


def test_retries_of_the_profile_are_as_many_jobs(run):
    run.profile(**{"slurm-init-seconds-before-status-checks": 1, "retries": 1})
    process = run.start("never.txt")
    said = run.finish(process)
    assert process.returncode == 1 and "FAILED" in said
    assert len(run.started()) == len(set(run.started())) == 2


def test_no_rule_has_retries():
    assert not [path for path in (ROOT / "workflow").rglob("*.smk") if "retries:" in path.read_text()]


def test_a_job_that_outlives_its_snakemake_is_taken_over(run):
    first = run.start("file.txt", 25)
    job_id = run.wait_for_start()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    run.finish(run.start("file.txt", 25, "--unlock"))
    second = run.start("file.txt", 25)
    said = run.finish(second)
    assert second.returncode == 0 and f"goes on as SLURM job {job_id}" in said, said
    assert run.started() == [job_id]


def test_a_job_of_an_earlier_configuration_is_cancelled(run, cluster):
    first = run.start("file.txt", 60)
    job_id = run.wait_for_start()
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    run.finish(run.start("file.txt", 1, "--unlock"))
    second = run.start("file.txt", 1, value=2)
    said = run.finish(second)
    assert second.returncode == 0 and f"SLURM job {job_id} of an earlier run" in said, said
    assert (run.folder / "file.txt").read_text() == "2\n" and len(run.started()) == 2
    assert "CANCELLED" in cluster.run("squeue", "-h", "--states=all", "-j", job_id, "-o", "%T").stdout


def test_a_job_that_vanished_is_named(run, cluster):
    process = run.start("file.txt", 60)
    job_id = run.wait_for_start()
    cluster.stop_controller()
    for path in (cluster.folder / "state").iterdir():
        if path.is_file() and "job_state" in path.name:
            path.unlink()
    cluster.start_controller()
    said = run.finish(process)
    assert process.returncode == 1 and f"SLURM job {job_id} vanished without a trace" in said, said


@pytest.mark.parametrize(
    ("target", "resources", "changes", "words"),
    [
        ("file.txt", {"slurm_partition": "nowhere"}, {}, ["slurm_partition is 'nowhere'", "main, urgent"]),
        ("file.txt", {"slurm_account": "friends"}, {}, ["slurm_account is 'friends'", "keeps no accounts"]),
        ("gpu.txt", {}, {"set-resources": {"use_gpu": {"gpu": 9}}}, ["would not run use_gpu", "gpu:8"]),
        ("file.txt", {"mem_mb": 90000}, {}, ["would not run make_file", "64000 MB"]),
        ("file.txt", {"runtime": 20000}, {}, ["a time limit of 20000 minutes", "at most 7-00:00:00"]),
        ("file.txt", {}, {"slurm-status-command": "sacct"}, ["sacct answers nothing", "slurm-status-command: squeue"]),
        ("file.txt", {}, {"slurm-init-seconds-before-status-checks": 4000}, ["sacct answers nothing", "MinJobAge"]),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_submitted(run, cluster, target, resources, changes, words):
    before = cluster.jobs()
    run.profile(resources, **{"slurm-init-seconds-before-status-checks": 1} | changes)
    process = run.start(target)
    said = run.finish(process, 60)
    assert process.returncode == 1 and all(word in said for word in words), said
    assert "What to do: " in said and cluster.jobs() == before and "Traceback" not in said


def test_a_controller_that_is_down_is_said_at_submission(run, cluster):
    cluster.stop_controller()
    process = run.start("file.txt")
    said = run.finish(process, 90)
    assert process.returncode == 1 and "SLURM answers nothing" in said, said
