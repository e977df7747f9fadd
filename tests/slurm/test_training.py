"""Training as one SLURM job that outlives signals, requeues, time limits, failed nodes and its own launcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.slurm.cluster import end

pytestmark = pytest.mark.slurm


class Training(Project):
    """A project whose stage train_tokenizer is the stand-in, launched in processes of its own."""

    def __init__(self, folder: Path, cluster):
        folder.mkdir(exist_ok=True)
        super().__init__(folder)
        self.cluster, self.started = cluster, []
        (folder / "v2l" / "train_tokenizer.py").write_text(Path("tests/slurm/stand_in.py").read_text())
        (folder / "manifest").write_text("pictures")

    def start(self, steps: int = 60, fails_at: int = 1000, **resources) -> subprocess.Popen:
        batch_size = resources.pop("global_batch_size", 4)
        asked = {"nodes": 2, "gpus_per_node": 2, "images_per_gpu": 1, "runtime": 5, "mem_mb": 500}
        asked |= {"launcher": "slurm", "slurm_partition": "main", "warning_seconds": 30} | resources
        section = {"dataset": "toy", "tokenizers": ["v2l"], "global_batch_size": batch_size, "epochs": fails_at}
        section |= {"max_steps": steps, "checkpoint_every": 10, "loss": {"perceptual_weights": "vgg"}}
        section |= {"guard": {"action": "stop"}}
        config = {"job": {"tokenizer": "v2l", "work": "work"}, "tokenizers": {"v2l": {"method": "v2l"}}}
        resources = [f"{key}={value}" for key, value in asked.items()]
        command = [sys.executable, "-m", "v2l.cluster.launch", *resources, "--"]
        command += [
            "python",
            "-m",
            "v2l.train_tokenizer",
            "--config",
            json.dumps(config | {"train_tokenizer": section}),
        ]
        command += [
            "--code",
            "v2l.train_tokenizer",
            "--input",
            "manifest",
            "manifest",
            "--output",
            "weights",
            "out/weights",
            "--log",
            "launch.log",
        ]
        environment = os.environ | self.cluster.environment
        kwargs = {"cwd": self.folder, "env": environment, "stderr": subprocess.PIPE, "text": True}
        self.started.append(process := subprocess.Popen(command, start_new_session=True, **kwargs))
        return process

    def events(self) -> list[dict]:
        path = self.folder / "work" / "events.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_start(self, number: int = 1) -> dict:
        """The `number`th start of rank 0."""

        def started():
            self.cluster.release()
            return len(self.events()) >= number and self.events()[number - 1]

        return self.cluster.wait(started, 90, f"start {number}")

    def wait_for_checkpoint(self, step: int) -> None:
        path = self.folder / "work" / "checkpoint"
        self.cluster.wait(lambda: path.exists() and int(path.read_text()) >= step, 60, f"checkpoint {step}")

    def finish(self, process: subprocess.Popen, seconds: float = 120) -> str:
        """What the launcher said until it ended well."""
        self.cluster.wait(lambda: self.cluster.release() or process.poll() is not None, seconds, "the launcher's end")
        said = process.stderr.read()
        assert process.returncode == 0, said
        assert (self.folder / "out" / "weights").read_text().endswith("steps")
        return said

    def name(self) -> str:
        """The job's name, once there is a record."""
        end = time.monotonic() + 30
        while not (records := list(self.folder.glob("work/*.slurm/job.json"))) and time.monotonic() < end:
            time.sleep(0.2)
        return json.loads(records[0].read_text())["name"]

    def job_ids(self) -> list[str]:
        """Every job that was ever submitted for this folder's training."""
        return sorted(path.name for path in self.folder.glob("work/*.slurm/[0-9]*"))


@pytest.fixture
def training(tmp_path, cluster):
    made = Training(tmp_path, cluster)
    yield made
    end(made.started)


def test_two_nodes_with_two_ranks_each_train_and_the_launcher_collects(training):
    said = training.finish(training.start(steps=10))
    event = training.events()[0]
    assert event["WORLD_SIZE"] == "4" and event["LOCAL_RANK"] == "0" and event["MASTER_ADDR"].startswith("node")
    assert event["CUDA_VISIBLE_DEVICES"] == "0,1" and event["host"] == event["MASTER_ADDR"]
    assert "2 nodes x 2 GPUs" in said and (training.folder / "launch.log").read_text() in said


def test_requeue_preemption_and_a_failed_node_cost_nothing_but_time(training, cluster):
    process = training.start(steps=120)
    first = training.wait_for_start()
    training.wait_for_checkpoint(10)
    cluster.run("scontrol", "requeue", first["SLURM_JOB_ID"])
    second = training.wait_for_start(2)
    assert second["step"] >= 10
    training.wait_for_checkpoint(second["step"] + 10)
    # A job of a partition with precedence takes all nodes and is cancelled once training has made room.
    urgent = ["sbatch", "-p", "urgent", "--nodes=4", "--exclusive", "--time=5", "--wrap", "sleep 300", "--parsable"]
    urgent_id = cluster.run(*urgent, "--output=/dev/null").stdout.strip()
    cluster.wait(lambda: f"{urgent_id} RUNNING None" in cluster.jobs(), 90, "preemption")
    cluster.run("scancel", urgent_id)
    third = training.wait_for_start(3)
    assert third["step"] >= second["step"] + 10
    training.wait_for_checkpoint(third["step"] // 10 * 10 + 10)
    cluster.fail_node(third["host"])
    fourth = training.wait_for_start(4)
    assert fourth["step"] >= third["step"] and fourth["host"] != third["host"]
    training.finish(process)
    assert training.job_ids() == [first["SLURM_JOB_ID"]], "one job through everything"


def test_a_time_limit_stops_at_a_step_and_goes_on_in_the_same_job(training):
    process = training.start(steps=350, runtime=1)
    training.wait_for_start()
    second = training.wait_for_start(2)
    assert 0 < second["step"] < 350
    training.finish(process, 240)
    assert len(training.job_ids()) == 1


def test_restarts_are_counted_and_the_reason_is_said(training, cluster):
    process = training.start(steps=300, restarts=0)
    job_id = training.wait_for_start()["SLURM_JOB_ID"]
    cluster.run("scontrol", "requeue", job_id)
    cluster.wait(lambda: cluster.release() or process.poll() is not None, 60, "failure")
    said = process.stderr.read()
    assert process.returncode == 1 and "more often than `restarts` of the profile (0)" in said and job_id in said


def test_a_failure_ends_all_ranks_and_shows_the_last_lines(training):
    process = training.start(fails_at=3)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "ended with exit code 3" in said and "the last words of the stand-in" in said
    assert "Traceback" not in said


def test_a_cancelled_job_is_told_and_the_next_start_goes_on(training, cluster):
    process = training.start(steps=40)
    job_id = training.wait_for_start()["SLURM_JOB_ID"]
    training.wait_for_checkpoint(10)
    cluster.run("scancel", job_id)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and f"SLURM job {job_id}" in said and "CANCELLED" in said
    training.finish(training.start(steps=40))
    assert training.events()[1]["step"] >= 10 and len(training.job_ids()) == 2


def test_a_killed_launcher_finds_its_job_and_two_starts_submit_once(training):
    first = training.start(steps=100)
    training.wait_for_start()
    first.kill()
    first.communicate()
    second, third = training.start(steps=100), training.start(steps=100)
    said = [training.finish(process) for process in (second, third)]
    assert all("re-attached to SLURM job" in text for text in said) and len(training.job_ids()) == 1


def test_two_first_starts_submit_once(training):
    said = [training.finish(process) for process in [training.start(steps=10), training.start(steps=10)]]
    assert len(training.job_ids()) == 1 and sum("submitted SLURM job" in text for text in said) == 1


def test_a_job_that_ended_unwatched_is_collected(training, cluster):
    process = training.start(steps=10)
    training.wait_for_start()
    process.kill()
    process.communicate()
    cluster.wait(lambda: any("COMPLETED" in line for line in cluster.jobs("--name", training.name())), 60, "the end")
    assert "had finished" in training.finish(training.start(steps=10)) and len(training.job_ids()) == 1


@pytest.mark.parametrize(
    ("number", "resources", "cancelled"),
    [
        (signal.SIGINT, {}, True),
        (signal.SIGTERM, {}, False),
        (signal.SIGHUP, {}, False),
        (signal.SIGINT, {"on_interrupt": "keep"}, False),
        (signal.SIGTERM, {"on_terminate": "cancel"}, True),
    ],
)
def test_a_signal_leaves_or_cancels_the_job_as_the_profile_says(training, cluster, number, resources, cancelled):
    process = training.start(steps=300, **resources)
    job_id = training.wait_for_start()["SLURM_JOB_ID"]
    time.sleep(1)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number and (f"cancelled SLURM job {job_id}" in said) == cancelled, said
    assert ("the next start finds it" in said) != cancelled
    state = cluster.run("squeue", "-h", "--states=all", "-j", job_id, "-o", "%T").stdout.strip()
    assert state == ("CANCELLED" if cancelled else "RUNNING") or (cancelled and state == "COMPLETING")


def test_four_nodes_of_eight_gpus_are_scheduled(training, cluster):
    training.start(steps=300, nodes=4, gpus_per_node=8, global_batch_size=32, cpus_per_gpu=2)
    cluster.wait(lambda: any("RUNNING" in line for line in cluster.jobs("--name", training.name())), 30, "32 GPUs")
    (line,) = cluster.jobs("--name", training.name(), columns="%i %D %b")
    job_id, nodes, _ = line.split()
    assert nodes == "4"
    shown = cluster.run("scontrol", "show", "job", job_id).stdout
    assert "NumNodes=4" in shown and "NumTasks=32" in shown and "TresPerNode=gres:gpu:8" in shown


def test_without_an_answer_nothing_is_submitted(training, cluster):
    cluster.stop_controller()
    process = training.start()
    said = process.communicate(timeout=150)[1]
    assert process.returncode == 1 and "SLURM does not say which jobs are queued" in said
    cluster.start_controller()
    assert training.job_ids() == []
