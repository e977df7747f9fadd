"""Snakemake's SLURM executor, with what its release 2.8.0 lacks: no job forgotten, none submitted twice.

- Everything that SLURM would refuse is said before the first job is submitted.
- When no status query of a round is answered, the plugin forgets its jobs and waits for ever: they are kept here.
- A job that vanishes from SLURM, or whose state stays unknown, is named and counts as failed.
- A job that a killed Snakemake left running is taken over instead of submitted beside itself.

This replaces parts of the plugin that no release promises to keep: another minor version is refused at the start.
"""

import getpass
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from v2l.cluster import preflight
from v2l.cluster.commands import active_jobs, ask, keeps_accounts, require_slurm
from v2l.cluster.request import Request, batch_size_of
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.sealed_lines import read_sealed_lines, sealed_line

LOST_SECONDS = 600
OUTAGE_SECONDS = 3600
LEDGER = Path(".snakemake/slurm_jobs.jsonl")
PACKAGE = "snakemake-executor-plugin-slurm"
WRITTEN_FOR = "2.8.0"
# What is replaced or called below: of the plugin's module, of its executor, and of that executor once it has begun.
FUNCTIONS = (
    *("query_job_status", "query_job_status_squeue", "query_job_status_sacct", "get_min_job_age"),
    *("_status_lookup_ids", "get_submit_command", "set_gres_string"),
)
MEMBERS = (
    *("check_active_jobs", "next_seconds_between_status_checks", "run_job"),
    *("_report_job_submission_threadsafe", "get_partition_arg"),
)
ATTRIBUTES = ("run_uuid", "_fallback_account_arg")


class Executor(plugin.Executor):
    """The plugin's executor; `answer` is what the last status query said, None if it said nothing."""

    report_job_success: Callable[..., None]
    report_job_error: Callable[..., None]
    next_seconds_between_status_checks: float

    def __post_init__(self, test_mode: bool = False):
        try:
            check_plugin()
            require_slurm()
            settings = self.workflow.executor_settings
            preflight.check_status_command(settings.status_command, settings.init_seconds_before_status_checks)
            super().__post_init__(test_mode)
            _require(self, "Executor", ATTRIBUTES)
            self._check_requests()
            self.left_behind = self._find_left_behind()
        except UserError as error:
            raise WorkflowError(str(error)) from None
        self.answer: dict[str, str] | None = None
        self.adopted: set[str] = set()
        self.seen: dict[str, float] = {}
        self.answered = time.monotonic()
        self._guard_queries()

    def _check_requests(self) -> None:
        """Ask SLURM about every kind of job of this run."""
        if not keeps_accounts():
            self._fallback_account_arg = ""  # else the plugin guesses one from sacct
        names: set[tuple[str, str]] = set()
        kinds: set[str] = set()
        for job in self.workflow.dag.needrun_jobs():
            launched = job.resources.get("launcher") == "slurm"
            resources = {name: value for name, value in job.resources.items() if name != "tmpdir"}
            kind = f"{job.rule.name} {job.threads} {resources}"
            if kind in kinds or (job.is_local and not launched):
                continue
            kinds.add(kind)
            partition = str(resources.get("slurm_partition") or "")
            account = str(resources.get("slurm_account") or "")
            if (partition, account) not in names:
                names.add((partition, account))
                preflight.check_partition(partition)
                preflight.check_account(account, getpass.getuser())
            if launched:
                config = StageConfig(job.rule.name, json.loads(job.params.config))
                options = Request.parse(resources).options(batch_size_of(config))
            else:
                options = self._options(job, account)
            if "<TBD>" not in options:
                preflight.check_request(job.rule.name, options, partition, float(resources.get("runtime") or 0))
            text = getattr(job.params, "config", "")
            if text and (launched or resources.get("gpu")):
                preflight.check_gpus(partition, text)

    def _options(self, job, account: str) -> str:
        """The options of sbatch that decide whether the job can run, as the plugin will give them."""
        names = {"run_uuid": "v2l", "slurm_logfile": "/dev/null", "comment_str": "v2l", "workdir": ""}
        names |= {"account": f"-A {shlex.quote(account)}" if account else "", "partition": self.get_partition_arg(job)}
        call = plugin.get_submit_command(job, names, settings=self.workflow.executor_settings)
        return call.split("--comment v2l", 1)[1] + plugin.set_gres_string(job)

    # ---- status

    def _guard_queries(self) -> None:
        """Let the plugin's module-level helpers remember the last answer and ask about adopted jobs too."""
        query, squeue, sacct = plugin.query_job_status, plugin.query_job_status_squeue, plugin.query_job_status_sacct
        min_job_age, known_age = plugin.get_min_job_age, plugin.get_min_job_age()

        async def query_job_status(command, logger):
            answer, seconds = await query(command, logger)
            if answer is not None:  # the plugin takes UNKNOWN for success
                answer = {job_id: state for job_id, state in answer.items() if state != "UNKNOWN"}
            self.answer = answer
            return answer, seconds

        plugin.query_job_status = query_job_status
        plugin.query_job_status_squeue = lambda run: squeue(",".join([run, *sorted(self.adopted)]))
        plugin.query_job_status_sacct = lambda run: sacct(",".join([run, *sorted(self.adopted)]))
        # While the controller is away the plugin would turn to sacct, which may not exist.
        plugin.get_min_job_age = lambda: min_job_age() or known_age

    async def check_active_jobs(self, active_jobs):
        settled = set()
        success, error = self.report_job_success, self.report_job_error

        def noting(report):
            def note(job_info, *arguments, **options):
                settled.add(id(job_info))
                return report(job_info, *arguments, **options)

            return note

        self.answer = None
        self.report_job_success, self.report_job_error = noting(success), noting(error)
        try:
            async for _ in super().check_active_jobs(active_jobs):
                pass
        finally:
            del self.report_job_success, self.report_job_error
        now = time.monotonic()
        if self.answer is not None:
            self.answered = now
        elif active_jobs:
            self.logger.warning(f"SLURM says nothing about {len(active_jobs)} jobs; asking again.")
        # While nothing ends the plugin looks ever less often, every 3 minutes at last: late for a chain of short jobs.
        longest = 3 * self.executor_settings.init_seconds_before_status_checks
        self.next_seconds_between_status_checks = min(self.next_seconds_between_status_checks, longest)
        for job_info in active_jobs:
            if id(job_info) in settled:
                self.seen.pop(job_info.external_jobid, None)
            elif problem := self._problem(job_info.external_jobid, now):
                error(job_info, msg=problem, aux_logs=[str(job_info.aux.get("slurm_logfile"))])
            else:
                yield job_info

    def _problem(self, job_id: str, now: float) -> str | None:
        """Why a job that is neither done nor failed must count as failed, or None."""
        if self.answer is None:
            silence = now - self.answered
            if silence < OUTAGE_SECONDS:
                return None
            return f"SLURM has said nothing for {silence / 60:.0f} minutes; job {job_id} may still be running. "
        state = next((self.answer[key] for key in plugin._status_lookup_ids(job_id) if key in self.answer), None)
        if state not in (None, "PREEMPTED", "REVOKED"):
            self.seen[job_id] = now
        lost = now - self.seen.setdefault(job_id, now)
        if lost < LOST_SECONDS:
            return None
        return f"SLURM job {job_id} vanished without a trace ({state or 'unknown'} for {lost / 60:.0f} minutes). "

    # ---- jobs of a Snakemake that was killed

    def run_job(self, job):
        output = str(min(job.output, default=""))
        found = self.left_behind.pop(output, None)
        if found and found["key"] == _key(job):
            self.adopted.add(found["run"])
            self.logger.info(f"Job {job.jobid} goes on as SLURM job {found['job_id']}, left by an earlier run.")
            aux = {"slurm_logfile": Path(found["log"])}
            self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=found["job_id"], aux=aux))
            return
        if found:
            self.logger.info(f"SLURM job {found['job_id']} of an earlier run would make an old {output}: cancelled.")
            ask("scancel", found["job_id"])
        super().run_job(job)

    def _report_job_submission_threadsafe(self, job_info):
        job = job_info.job
        if job_info.external_jobid and not job.is_group() and job.output:
            record = {"job_id": job_info.external_jobid, "run": self.run_uuid, "output": str(min(job.output))}
            record |= {"key": _key(job), "log": str(job_info.aux.get("slurm_logfile"))}
            with open(LEDGER, "ab") as ledger:
                ledger.write(sealed_line(record))
        super()._report_job_submission_threadsafe(job_info)

    def _find_left_behind(self) -> dict[str, dict]:
        """Output -> record of each job of earlier runs in this folder that SLURM still has queued or running."""
        if not LEDGER.exists():
            return {}
        active = set(active_jobs())
        records = read_sealed_lines(LEDGER)
        alive = [record for record in records if (record["job_id"], record["run"]) in active]
        with atomic_path(LEDGER) as temporary:
            temporary.write_bytes(b"".join(map(sealed_line, alive)))
        return {record["output"]: record for record in alive}


def check_plugin() -> None:
    """Raises UserError if the installed plugin is none that this module was written for, or lacks what it replaces."""
    found, supported = metadata.version(PACKAGE), WRITTEN_FOR.rpartition(".")[0]
    if found.split(".")[:2] != supported.split("."):
        raise _unsupported(f"version {found} of the SLURM plugin is installed", f"version {supported}.x of {PACKAGE}")
    _require(plugin, plugin.__name__, FUNCTIONS)
    _require(plugin.Executor, "Executor", MEMBERS)


def _require(owner: object, name: str, wanted: Sequence[str]) -> None:
    if missing := [f"{name}.{attribute}" for attribute in wanted if not hasattr(owner, attribute)]:
        problem = f"the installed SLURM plugin (version {metadata.version(PACKAGE)}) has no {', no '.join(missing)}"
        raise _unsupported(
            problem, f"{PACKAGE} as released in version {WRITTEN_FOR}, which v2l/cluster/executor.py changes"
        )


def _unsupported(problem: str, expected: str) -> UserError:
    return UserError(problem, expected, f"run `make setup`, or `pip install {PACKAGE}=={WRITTEN_FOR}`")


def _key(job) -> str:
    """Hash of what decides a job's outputs: rule, wildcards, params, and names and times of its inputs."""
    inputs = [(str(path), os.stat(path).st_mtime_ns if os.path.exists(path) else 0) for path in job.input]
    parts = [job.rule.name, sorted(job.wildcards_dict.items()), list(map(str, job.params)), sorted(inputs)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def install() -> None:
    """Make `--executor slurm` use this executor."""
    ExecutorPluginRegistry().get_plugin("slurm").executor = Executor
