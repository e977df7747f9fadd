"""The tiny experiment on a real SLURM: the same tables, the same training, and no second job after a killed start."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

from tests.conftest import Project
from v2l.io.storage import read_tensors
from v2l.tables.tables import TABLES

pytestmark = [pytest.mark.slurm, pytest.mark.pipeline, pytest.mark.timeout(1400)]
WEIGHTS = "results/tiny/train_tokenizer/v2l.safetensors"
METRICS = "results/tiny/train_tokenizer/v2l.metrics.jsonl"
TWO_BY_TWO = {"nodes": 2, "gpus_per_node": 2, "images_per_gpu": 1, "cpus_per_gpu": 1, "mem_mb": 2000, "runtime": 30}


def with_one_tokenizer(project: Project) -> Project:
    """The tiny experiment with one tokenizer and no baselines: every stage and table, in a quarter of the jobs."""
    path = project.folder / "config" / "experiments" / "tiny.yaml"
    experiment = yaml.safe_load(path.read_text())
    evaluate = experiment["evaluate_llm"]
    experiment["train_tokenizer"]["tokenizers"] = evaluate["restoration"]["tokenizers"] = ["v2l"]
    evaluate["restoration"]["images_of"] = {}
    evaluate["classification"] |= {"tokenizers": ["v2l"], "grid_of": {}}
    for section in evaluate.values():
        section["baselines"] = []
    path.write_text(yaml.safe_dump(experiment))
    return project


@pytest.fixture(scope="module")
def local_run(new_project) -> Project:
    """The project after a run without SLURM."""
    project = with_one_tokenizer(new_project())
    result = project.snakemake("all_tables")
    assert result.returncode == 0, result.stdout[-6000:]
    return project


def for_cluster(project: Project, **training) -> Project:
    """`project` with this cluster's partition, no account, quick looks, and training small enough for its nodes."""
    path = project.folder / "slurm" / "profile.v9+.yaml"
    site = yaml.safe_load(path.read_text())
    site["default-resources"] = {"slurm_partition": "main", "nodes": 1, "mem_mb": 1000, "runtime": 30}
    site |= {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 10, "jobs": 4}
    path.write_text(yaml.safe_dump(site))
    path = project.folder / "workflow" / "profiles" / "default" / "profile.v9+.yaml"
    needs = yaml.safe_load(path.read_text())
    needs["set-resources"]["train_tokenizer"] |= {"mem_mb": 2000, "cpus_per_gpu": 1} | training
    # One stage as two processes on one node, one as two processes on two nodes, as docs/cluster.md says.
    needs["set-resources"]["extract_tokens"] |= {"shards": 2, "gpu": 2}
    launcher = "srun --nodes=1 --ntasks=1 --exact --gpus=1 --cpus-per-task=1 --mem=1000"
    two_nodes = {"nodes": 2, "gpu": 2, "tasks": 2, "tasks_per_gpu": 1, "mpi": "srun", "launcher": launcher}
    needs["set-resources"]["embed_images"] |= {"shards": 2, "mem_mb": 2000} | two_nodes
    path.write_text(yaml.safe_dump(needs))
    return project


def training_jobs(project: Project) -> list[str]:
    """Every SLURM job that was ever submitted for the training."""
    return [path.name for path in project.folder.glob("work/tiny/train_tokenizer/v2l/*.slurm/[0-9]*")]


def test_every_table_equals_the_local_runs(local_run, new_project, cluster):
    project = for_cluster(with_one_tokenizer(new_project()))
    result = project.snakemake("all_tables", "--profile", "slurm", **cluster.environment)
    assert result.returncode == 0, result.stdout[-6000:]
    for table in TABLES:
        name = f"results/{table}.csv"
        assert (project.folder / name).read_bytes() == (local_run.folder / name).read_bytes(), table
    assert len(training_jobs(project)) == 1


def test_training_on_two_nodes_with_two_ranks_equals_four_local_ranks(local_run, tmp_path, cluster):
    cases = {"local": ({"local_ranks": 4}, []), "slurm": (TWO_BY_TWO, ["--profile", "slurm"])}
    weights, metrics = {}, {}
    for name, (training, arguments) in cases.items():
        project = for_cluster(local_run.copy(tmp_path / name), **training)
        result = project.snakemake(WEIGHTS, "-R", "train_tokenizer", *arguments, **cluster.environment)
        assert result.returncode == 0, result.stdout[-6000:]
        weights[name] = read_tensors(project.folder / WEIGHTS)[0]
        metrics[name] = (project.folder / METRICS).read_text()
    assert metrics["slurm"] == metrics["local"]
    assert all((weights["slurm"][key] == weights["local"][key]).all() for key in weights["local"])
    assert "2 nodes x 2 GPUs" in (project.folder / "logs/tiny/train_tokenizer/v2l.log").read_text()


def test_a_snakemake_that_was_killed_and_started_again_has_one_job(local_run, tmp_path, cluster):
    project = for_cluster(local_run.copy(tmp_path), **TWO_BY_TWO)
    shutil.copy("tests/slurm/stand_in.py", project.folder / "v2l" / "train_tokenizer.py")
    arguments = [
        WEIGHTS,
        "--profile",
        "slurm",
        "--config",
        "experiment=tiny",
        "train_tokenizer={max_steps: 200, epochs: 1000}",
    ]
    command = [sys.executable, "-m", "snakemake", *arguments]
    kwargs = {"cwd": project.folder, "env": os.environ | cluster.environment, "start_new_session": True}
    with open(tmp_path / "head.log", "w") as output:
        first = subprocess.Popen(command, stdout=output, stderr=output, **kwargs)
        events = project.folder / "work/tiny/train_tokenizer/v2l/events.log"
        try:
            cluster.wait(events.exists, 120, "training")
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
    assert project.snakemake(*arguments[:3], "--unlock", **cluster.environment).returncode == 0
    result = project.snakemake(*arguments, **cluster.environment)
    assert result.returncode == 0, result.stdout[-6000:]
    assert "re-attached to SLURM job" in (project.folder / "logs/tiny/train_tokenizer/v2l.log").read_text()
    assert len(training_jobs(project)) == 1
    assert (project.folder / WEIGHTS).read_text() == "200 steps"
