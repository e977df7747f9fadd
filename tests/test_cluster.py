"""What is asked of SLURM and how its answers are read, on machines without it; tests/slurm has the real one."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from tests.slurm import fake_slurm
from tests.slurm.cluster import Cluster
from tests.slurm.test_training import Training
from v2l.cluster import commands, executor, preflight
from v2l.cluster.commands import minutes
from v2l.cluster.request import BatchExecutor, Request
from v2l.errors import UserError
from v2l.pipeline.job_commands import launched
from v2l.training.progress_line import progress_line

PROFILE = yaml.safe_load(Path("workflow/profiles/default/profile.v9+.yaml").read_text())
PAPER = PROFILE["set-resources"]["train_tokenizer"] | {"slurm_partition": "gpu", "slurm_account": "vision"}


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """The fake commands first on the PATH; the folder of their calls and jobs."""
    folder = fake_slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    (tmp_path / "slurm").mkdir()
    return tmp_path / "slurm"


def calls(slurm: Path, name: str) -> list[list[str]]:
    lines = [json.loads(line) for line in (slurm / "calls.log").read_text().splitlines()]
    return [arguments for command, *arguments in lines if command == name]


def test_the_papers_training_is_one_job_of_32_gpus(slurm):
    text = Request.parse(PAPER).executor("v2l-x", Path("/w"), 256)._make_submission_file_text("python task", "")
    assert text == (
        "#!/bin/bash\n"
        "\n"
        "# Parameters\n"
        "#SBATCH --account=vision\n"
        "#SBATCH --cpus-per-task=8\n"
        "#SBATCH --error=/w/%j/%j_0_log.err\n"
        "#SBATCH --gpus-per-node=8\n"
        "#SBATCH --job-name=v2l-x\n"
        "#SBATCH --mem=256000M\n"
        "#SBATCH --nodes=4\n"
        "#SBATCH --ntasks-per-node=8\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --output=/w/%j/%j_0_log.out\n"
        "#SBATCH --partition=gpu\n"
        "#SBATCH --requeue\n"
        "#SBATCH --signal=USR2@180\n"
        "#SBATCH --time=1440\n"
        "\n"
        "# command\n"
        "export SUBMITIT_EXECUTOR=slurm\n"
        "srun --unbuffered --output /w/%j/%j_%t_log.out --error /w/%j/%j_%t_log.err --kill-on-bad-exit=1 python task\n"
    )


def test_constraints_and_missing_accounts_reach_sbatch(slurm):
    options = Request.parse(PAPER | {"constraint": "a100&nvlink", "slurm_account": ""}).options(256)
    assert "--constraint='a100&nvlink'" in options and "--account" not in options and "--output" not in options


@given(st.integers(1, 300), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_a_batch_is_shared_evenly_and_no_gpu_gets_too_little(batch, nodes, gpus, least):
    request = Request(nodes=nodes, gpus_per_node=gpus, images_per_gpu=least)
    used_nodes, used_gpus = request.geometry(batch)
    ranks = used_nodes * used_gpus
    assert used_nodes <= nodes and used_gpus <= gpus and batch % ranks == 0
    assert ranks == 1 or batch // ranks >= least


def test_the_demo_takes_two_gpus_of_one_node():
    assert Request.parse(PAPER).geometry(16) == (1, 2) and Request.parse(PAPER).geometry(256) == (4, 8)


def test_wrong_resources_are_named():
    with pytest.raises(UserError, match="on_interrupt: .*'stop'.*set-resources"):
        Request.parse({"on_interrupt": "stop"})


def test_time_limits_are_read_in_minutes():
    limits = ["30:00", "2:00:00", "1-00:30:00", "infinite"]
    assert [minutes(limit) for limit in limits] == [30, 120, 1470, float("inf")]


def test_progress_says_what_is_left():
    values = {"step": 20, "steps": 120, "pixel": 0.25, "images_per_second": 64.0}
    assert progress_line(values, 256) == "step 20 of 120, pixel 0.25, 64 images/s, 0:06:40 left"
    usage = {"codes_share": 0.125, "codes_perplexity": 344.4}
    line = "step 20 of 120, pixel 0.25, 12.5% of the codes (perplexity 344)"
    assert progress_line({"step": 20, "steps": 120, "pixel": 0.25} | usage, 256) == line


def test_resources_are_no_part_of_the_stage_command():
    text = launched("python -m v2l.train_tokenizer --config {params.config:q}", ["nodes"])
    assert text.endswith("nodes={resources.nodes:q} -- python -m v2l.train_tokenizer --config {params.config:q}")


# ---- the executor's answers to SLURM's silence


class Guarded(executor.Executor):
    """The guard around a plugin whose status rounds are given."""

    def __init__(self, rounds):
        self.rounds, self.reported, self.logger = rounds, [], logging.getLogger("test")
        self.executor_settings = SimpleNamespace(init_seconds_before_status_checks=1)
        self.answer, self.seen, self.answered, self.next_seconds_between_status_checks = None, {}, 0.0, 180

    def report_job_success(self, job_info):
        self.reported.append((job_info.external_jobid, "done"))

    def report_job_error(self, job_info, msg=None, aux_logs=None):
        self.reported.append((job_info.external_jobid, msg))


async def plugin_round(self, active_jobs):
    """As release 2.8.0: without an answer, every job is dropped."""
    self.answer = self.rounds.pop(0)
    for job_info in active_jobs if self.answer is not None else []:
        if self.answer.get(job_info.external_jobid) == "COMPLETED":
            self.report_job_success(job_info)
        else:
            yield job_info


@pytest.fixture
def rounds(monkeypatch):
    """`go(answers, minutes between them)` -> (jobs still waited for, what was reported)."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(executor.plugin.Executor, "check_active_jobs", plugin_round)
    monkeypatch.setattr(executor.time, "monotonic", lambda: clock.now)

    def go(answers, step: float):
        guarded = Guarded(list(answers))
        waiting = [SubmittedJobInfo(None, external_jobid=job_id, aux={}) for job_id in ("1", "2")]

        async def look(waiting):
            return [job_info async for job_info in guarded.check_active_jobs(waiting)]

        for _ in answers:
            clock.now += 60 * step
            waiting = asyncio.run(look(waiting))
        return [job_info.external_jobid for job_info in waiting], guarded.reported

    return go


def test_jobs_outlive_unanswered_rounds(rounds):
    running = {"1": "RUNNING", "2": "RUNNING"}
    assert rounds([running, None, None, running | {"1": "COMPLETED"}], 5) == (["2"], [("1", "done")])


def test_an_hour_of_silence_ends_the_run(rounds):
    waiting, reported = rounds([{"1": "RUNNING"}, *[None] * 5], 13)
    assert waiting == [] and [job_id for job_id, _ in reported] == ["1", "2"]
    assert "SLURM has said nothing for 65 minutes; job 1 may still be running" in reported[0][1]


def test_a_job_that_slurm_no_longer_knows_is_named(rounds):
    waiting, reported = rounds([{"1": "RUNNING", "2": "RUNNING"}, *[{"1": "RUNNING"}] * 3], 4)
    assert waiting == ["1"] and "SLURM job 2 vanished without a trace" in reported[0][1]


# ---- the plugin that it was written for


def refusal() -> str:
    """What a run of the executor is told at its start."""
    with pytest.raises(WorkflowError) as caught:
        executor.Executor.__new__(executor.Executor).__post_init__()
    return str(caught.value)


@pytest.mark.parametrize("version", ["2.7.9", "2.9.0", "3.0.0", "2.80.0", "3"])
def test_another_version_of_the_plugin_is_refused(monkeypatch, version):
    monkeypatch.setattr(executor.metadata, "version", {executor.PACKAGE: version}.get)
    said = refusal()
    assert f"version {version} of the SLURM plugin" in said and "Expected: version 2.8.x" in said
    assert "`make setup`" in said and "`pip install snakemake-executor-plugin-slurm==2.8.0`" in said


@pytest.mark.parametrize("version", ["2.8.0", "2.8.7", "2.8.0.post1"])
def test_corrections_of_the_plugin_are_taken(monkeypatch, version):
    monkeypatch.setattr(executor.metadata, "version", {executor.PACKAGE: version}.get)
    executor.check_plugin()


def test_the_locked_plugin_is_the_one_that_the_executor_was_written_for():
    assert f"\n{executor.PACKAGE}=={executor.WRITTEN_FOR} \\\n" in Path("requirements.lock").read_text()


@pytest.mark.parametrize("name", executor.FUNCTIONS)
def test_a_plugin_without_a_replaced_function_is_refused(monkeypatch, name):
    monkeypatch.delattr(executor.plugin, name)
    assert f"has no snakemake_executor_plugin_slurm.{name}. Expected: " in refusal()


@pytest.mark.parametrize("name", ["get_partition_arg", "_report_job_submission_threadsafe"])
def test_a_plugin_without_a_replaced_method_is_refused(monkeypatch, name):
    monkeypatch.delattr(executor.plugin.Executor, name)
    assert f"has no Executor.{name}. Expected: " in refusal()


def test_a_plugin_without_a_replaced_attribute_is_refused(monkeypatch):
    def begin(self, test_mode):
        self.run_uuid = "1"

    settings = SimpleNamespace(status_command="squeue", init_seconds_before_status_checks=1)
    monkeypatch.setattr(executor.plugin.Executor, "__post_init__", begin)
    monkeypatch.setattr(executor, "require_slurm", lambda: None)
    monkeypatch.setattr(executor.preflight, "check_status_command", lambda command, seconds: None)
    begun = executor.Executor.__new__(executor.Executor)
    begun.workflow = SimpleNamespace(executor_settings=settings)
    with pytest.raises(WorkflowError, match=r"has no Executor\._fallback_account_arg\. Expected: "):
        begun.__post_init__()


# ---- the profile's whole way, through fake commands


def test_a_stage_goes_through_the_shipped_profile(new_project, slurm):
    project = new_project()
    path = project.folder / "slurm" / "profile.v9+.yaml"
    path.write_text(path.read_text().replace("status-checks: 20", "status-checks: 1"))
    result = project.snakemake("results/tiny/index_images/imagenet.parquet", "--profile", "slurm", **os.environ)
    assert result.returncode == 0, result.stdout
    test_only, submitted = calls(slurm, "sbatch")
    shown = [word for word in submitted if not word.startswith(("--wrap", "--job-name", "--output", "--comment"))]
    text = " ".join(shown)
    for option in ("-A default", "-p gpu", "-t 480", "--mem 16000", "--nodes=1", "--requeue"):
        assert option in text, text
    assert "--test-only" in test_only and (project.folder / "results/tiny/index_images/imagenet.parquet").exists()


def test_a_training_goes_through_sbatch_and_is_collected(tmp_path, slurm):
    training = Training(tmp_path / "project", Cluster(tmp_path / "none"))
    said = training.finish(training.start(steps=3, images_per_gpu=8, slurm_partition="gpu", constraint="a100"), 60)
    ((script,),) = calls(slurm, "sbatch")
    text = (slurm / "1" / "script").read_text()
    assert script.endswith(".sh") and "--partition=gpu" in text and "--constraint=a100" in text and "--nodes=1" in text
    assert "submitted SLURM job 1" in said and "SLURM job 1: COMPLETED" in said
    (looked,) = [call for call in calls(slurm, "squeue") if any(word.startswith("--name=") for word in call)]
    assert looked[-1] == f"--name={training.name()}", "first asked whether the job is there"


def test_a_finished_training_counts_until_its_code_does_something_else(tmp_path, slurm):
    training = Training(tmp_path / "project", Cluster(tmp_path / "none"))
    path = training.folder / "v2l" / "train_tokenizer.py"
    said = []
    for edit in ("", "# a comment\n", "EDITED = True\n"):
        path.write_text(path.read_text() + edit)
        said.append(training.finish(training.start(steps=3, images_per_gpu=8), 60))
    assert "submitted SLURM job 1" in said[0] and "SLURM job 1 had finished" in said[1]
    assert (
        "submitted SLURM job 2" in said[2]
        and len({path.parent for path in training.folder.glob("work/*/job.json")}) == 1
    )


def test_a_training_runs_the_extensions_that_were_submitted(tmp_path, slurm, monkeypatch):
    training = Training(tmp_path / "project", Cluster(tmp_path / "none"))
    extension = training.folder / "own" / "noise.py"
    extension.parent.mkdir()
    extension.write_text("from pathlib import Path\nPath('loaded').write_text(__file__)\n")
    monkeypatch.setenv("V2L_EXTENSIONS", "own/noise.py")
    training.finish(training.start(steps=3, images_per_gpu=8), 60)
    (copy,) = training.folder.glob("work/*.slurm/code/own/noise.py")
    assert (training.folder / "loaded").read_text() == str(copy), "an edit while the job waits changes nothing"
    assert copy.read_text() == extension.read_text()


@pytest.mark.parametrize("ranks", [1, 2])
def test_without_a_cluster_the_same_command_is_one_process_or_several(tmp_path, ranks):
    training = Training(tmp_path / "project", Cluster(tmp_path / "none"))
    process = training.start(steps=3, launcher="local", local_ranks=ranks)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    (event,) = training.events()
    assert (event["WORLD_SIZE"] or "1") == str(ranks) and (training.folder / "out/weights").read_text() == "3 steps"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"gpu"', '"fast"', ["slurm_partition is 'fast'", "one of gpu", "slurm/profile.v9+.yaml"]),
        ('"default"', '"others"', ["slurm_account is 'others'", "one of default, friends"]),
    ],
)
def test_a_wrong_name_is_said_before_anything_is_submitted(new_project, slurm, old, new, words):
    project = new_project()
    path = project.folder / "slurm" / "profile.v9+.yaml"
    path.write_text(path.read_text().replace(old, new))
    result = project.snakemake("results/tiny/index_images/imagenet.parquet", "--profile", "slurm", **os.environ)
    assert result.returncode == 1 and all(word in result.stdout for word in words), result.stdout
    assert not (slurm / "calls.log").exists() or not calls(slurm, "sbatch")


def test_a_machine_without_slurm_is_told_so(new_project, tmp_path):
    project = new_project()
    target = "results/tiny/index_images/imagenet.parquet"
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("bash", "env", "git", "which"):
        (bare / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
    result = project.snakemake(target, "--profile", "slurm", PATH=f"{bare}:{Path(sys.executable).parent}")
    assert result.returncode == 1 and "this machine has no SLURM: `sbatch` is not on the PATH" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_run_with_another_plugin_ends_at_once(new_project, slurm, tmp_path):
    installed = tmp_path / "site" / "snakemake_executor_plugin_slurm-2.9.1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {executor.PACKAGE}\nVersion: 2.9.1\n")
    target = "results/tiny/index_images/imagenet.parquet"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    result = new_project().snakemake(target, "--profile", "slurm", **environment)
    assert result.returncode == 1 and "version 2.9.1 of the SLURM plugin is installed" in result.stdout, result.stdout
    assert "Traceback" not in result.stdout
    assert not calls(slurm, "squeue") and not calls(slurm, "sbatch"), "SLURM is not even asked for its queue"


# ---- what a site's wrappers print besides SLURM's answers

BANNER = """
\x1b[1;33m****************************************\x1b[0m
* Welcome to the cluster | maintenance: job 17 of 2|3 nodes|up on Monday *
WARNING: your quota is 93 % full
| Loading | modules | gcc/12 |

"""


def with_answers(monkeypatch, stdout: str = "", stderr: str = "", code: int = 0) -> None:
    process = subprocess.CompletedProcess([], code, BANNER + stdout, stderr)
    monkeypatch.setattr(commands.subprocess, "run", lambda *_, **__: process)


@pytest.mark.parametrize("end", ["\x07", "\x1b\\"])
def test_titles_and_links_are_no_part_of_an_answer(end):
    title, link = f"\x1b]0;login node{end}", f"\x1b]8;;https://example.org/help{end}"
    assert commands.plain(f"{title}see {link}the help\x1b]8;;{end} page") == "see the help page"


def test_a_table_is_read_below_a_banner(monkeypatch):
    with_answers(
        monkeypatch, "gpu|gpu*|up|1-00:00:00|4|64+|512000|gpu:a100:8(S:0-1)\ncpu|cpu|up|infinite|2|8|99|(null)\n"
    )
    gpu, cpu = preflight.kinds_of_nodes()
    assert gpu == ("gpu", True, "up", "1-00:00:00", "4", "64+", "512000", "gpu:a100:8(S:0-1)")
    assert (cpu.partition, cpu.default, cpu.gpus) == ("cpu", False, "(null)")


def test_an_answer_without_a_table_is_shown(monkeypatch):
    with_answers(monkeypatch, stderr="sinfo: error: no controller\n", code=1)
    with pytest.raises(UserError, match="tells of no partition; it says: sinfo: error: no controller / .*quota is 93"):
        preflight.kinds_of_nodes()


def test_jobs_states_settings_and_accounts_are_read_below_a_banner(monkeypatch):
    with_answers(monkeypatch, "12|v2l-demo\n13_4|a|b\n")
    assert commands.active_jobs() == [("12", "v2l-demo"), ("13_4", "a|b")]
    with_answers(monkeypatch, "\x1b[32mRUNNING\x1b[0m\n")
    assert commands.job_state("12") == "RUNNING"
    with_answers(monkeypatch, "CANCELLED by 1000\n")
    assert commands.job_state("12") == "CANCELLED"
    with_answers(monkeypatch)
    assert commands.job_state("12") == ""
    with_answers(monkeypatch, "Configuration data\n  MinJobAge               = 300 sec\nAccountingStorageType = a/b\n")
    assert commands.setting("MinJobAge") == "300" and commands.keeps_accounts()
    with_answers(monkeypatch, "AccountingStorageType = a/b\nvision|me\nother|you\n")
    preflight.check_account("vision", "me")
    with pytest.raises(UserError, match="one of vision$|one of vision\\."):
        preflight.check_account("other", "me")


def test_a_refusal_is_shown_with_all_its_lines(monkeypatch):
    refusal = """
sbatch: error: QOSMaxGRESPerUser
sbatch: lua: your project has 3 GPU hours left
sbatch: error: Batch job submission failed: Job violates accounting/QOS policy

"""
    with_answers(monkeypatch, "gpu|gpu*|up|infinite|4|64|512000|gpu:8\n", refusal, 1)
    monkeypatch.setattr(preflight, "kinds_of_nodes", list)
    with pytest.raises(UserError) as caught:
        preflight.check_request("train_tokenizer", "--gpus=32", "gpu", 10)
    message = str(caught.value)
    for line in refusal.split("\n"):
        assert line.strip() in message
    assert "\n" not in message and "QOSMaxGRESPerUser / sbatch: lua" in message


def test_a_very_long_refusal_keeps_its_beginning_and_its_end():
    text = commands.one_line("first\n" + "\n".join(f"line {number}" for number in range(1000)) + "\nlast")
    assert text.startswith("first / line 0") and text.endswith("/ last") and len(text) < 1600


@pytest.mark.parametrize(
    "said", [BANNER + "Submitted batch job 4711\n", b"\x1b[0mSubmitted batch job 4711 on cluster a"]
)
def test_the_submitted_job_is_not_the_banners(said):
    assert BatchExecutor._get_job_id_from_submission_command(said) == "4711"
