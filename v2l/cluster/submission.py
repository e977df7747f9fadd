"""One training, at most one SLURM job: found again after whoever waited for it was killed."""

import fcntl
import hashlib
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from submitit.helpers import clean_env

from v2l.cluster.commands import ENDED, active_jobs, ask, job_state, one_line, until
from v2l.cluster.preflight import RESOURCES
from v2l.cluster.request import Request
from v2l.cluster.training_task import LINES, TrainingTask
from v2l.configuration.extensions import inherited
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.json_records import read_json, write_json
from v2l.io.provenance import beside

POLL_SECONDS = 5
LOST_SECONDS = 60
OUTAGE_SECONDS = 3600
LOCK_SECONDS = 300
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Submission:
    """A training with the folder that its job, its launchers and their successors share.

    `key` stands for everything that decides the result but the code, `run` for that as well: a job that is there goes
    on with the code it was submitted with. `folder` holds the job's record, the submitted code, logs and, once it is
    done, the outputs.
    """

    name: str
    key: str
    run: str
    folder: Path

    @property
    def job_name(self) -> str:
        """The same for every start of this training in this folder, and for no other."""
        digest = hashlib.sha256(f"{self.key} {self.folder.absolute()}".encode()).hexdigest()[:12]
        return f"v2l-{self.name}-{digest}"

    @property
    def record(self) -> Path:
        return self.folder / "job.json"

    @property
    def checkpoints(self) -> Path:
        """The folder that the job trains in, named by its own code."""
        return self.folder.parent / self._read().get("run", self.run)

    def staged(self, output: Path) -> Path:
        """Where the job writes `output`, out of reach of Snakemake, which deletes outputs before it starts again."""
        return self.folder / "outputs" / output.name

    def find_or_submit(self, request: Request, batch_size: int, command: list[str]) -> str | None:
        """Id of the job that trains, queued, running or newly submitted; None if its results are already here.

        A finished result counts while the code that made it is unchanged, for it would come out the same.
        """
        with self._locked():
            if found := active_jobs(f"--name={self.job_name}"):
                job_id = found[0][0]
                logging.info("re-attached to SLURM job %s (%s)", job_id, self.job_name)
            else:
                if self._done() and self._read().get("run") == self.run:
                    logging.info("SLURM job %s had finished", self._read().get("job_id"))
                    return None
                job_id = self._submit(request, batch_size, command)
            self._write(job_id=job_id)
        return job_id

    def wait(self, job_id: str, report: Callable[[], None], stopped: Callable[[], bool]) -> str | None:
        """Wait for the job's end and return its last state, or None once `stopped`; calls `report` at every look.

        The state is GONE for a job that left no trace. Raises UserError when SLURM says nothing for an hour.
        """
        silent_since = lost_since = shown = None
        while not stopped():
            state, now = job_state(job_id), time.monotonic()
            silent_since = None if state is not None else silent_since or now
            lost_since = (lost_since or now) if state in ("", "PREEMPTED") else None
            if state and state != shown:
                logging.info("SLURM job %s: %s", job_id, shown := state)
            if state in ENDED:
                return state
            if lost_since and now - lost_since > LOST_SECONDS:
                return state or "GONE"
            if silent_since and now - silent_since > OUTAGE_SECONDS:
                raise UserError(
                    f"SLURM has not answered for {OUTAGE_SECONDS // 60} minutes; job {job_id} may still be running",
                    "a controller that answers",
                    "start again when `squeue` works: the same job is found",
                )
            report()
            until(stopped, POLL_SECONDS, every=0.2)
        return None

    def collect(self, job_id: str | None, state: str | None, outputs: list[Path]) -> None:
        """Put the job's outputs in place. Raises UserError with the reason and the last log lines if it failed."""
        # Network file systems show a file later than SLURM shows the state.
        if not until(self._done, 60 if state == "COMPLETED" else 0):
            raise UserError(self._reason(job_id, state), "a job that trains to the end", self._remedy(job_id))
        for output in outputs:
            for path in (output, beside(output)):
                if (staged := self.staged(path)).exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.unlink(missing_ok=True)
                    _link(staged, path)

    def cancel(self) -> list[str]:
        """Cancel the training's job; returns the ids."""
        ids = [job_id for job_id, _ in active_jobs(f"--name={self.job_name}")]
        if ids:
            ask("scancel", *ids)
        return ids

    def _submit(self, request: Request, batch_size: int, command: list[str]) -> str:
        shutil.rmtree(self.folder / "code", ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        # The job may start days later, or start again: it runs the code that was submitted.
        shutil.copytree(PACKAGE, self.folder / "code" / PACKAGE.name, ignore=ignored)
        extensions = [self._copied(path) for path in inherited()]
        (self.folder / "done.json").unlink(missing_ok=True)
        self._write(job_id=None, run=self.run, host=socket.gethostname())
        code, folder = (self.folder / "code").absolute(), self.folder.absolute()
        task = TrainingTask(command, code, extensions, folder, request.restarts)
        site = {"SLURM_CONF": os.environ["SLURM_CONF"]} if "SLURM_CONF" in os.environ else {}
        with clean_env():  # a launcher inside a SLURM job must not hand that job's limits on
            os.environ |= site
            executor = request.executor(self.job_name, self.folder, batch_size)
            try:
                job_id = executor.submit(task).job_id
            except Exception as error:
                raise UserError(
                    f"sbatch refused {self.job_name} ({one_line(str(error))})",
                    "a job that SLURM accepts",
                    f"change train_tokenizer under set-resources in {RESOURCES}",
                ) from None
        nodes, gpus = request.geometry(batch_size)
        logging.info("submitted SLURM job %s (%s): %d nodes x %d GPUs", job_id, self.job_name, nodes, gpus)
        return job_id

    def _copied(self, extension: str) -> str:
        """Path of a copy of an extension's file, which lies beside the package as the file does."""
        place = Path(os.path.relpath(extension, PACKAGE.parent))
        copy = self.folder.absolute().joinpath("code", *(part for part in place.parts if part != ".."))
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(extension, copy)
        return str(copy)

    def _done(self) -> bool:
        return (self.folder / "done.json").exists()

    def _read(self) -> dict:
        try:
            return read_json(self.record)
        except (FileNotFoundError, UserError):  # SLURM knows the job by its name as well
            return {}

    def _write(self, **values: str | None) -> None:
        write_json(self.record, self._read() | {"name": self.job_name} | values, indent=None)

    def _reason(self, job_id: str | None, state: str | None) -> str:
        problem = f"SLURM job {job_id} ({self.job_name}) ended as {state}"
        if state == "GONE":
            problem = f"SLURM job {job_id} ({self.job_name}) vanished without a trace"
        logs = self.folder / str(job_id)
        if failures := sorted(logs.glob("failure.*.json"), key=lambda path: path.stat().st_mtime):
            with suppress(UserError, KeyError, TypeError):  # damaged: the log tells as well
                found = read_json(failures[-1])
                return "\n  ".join([f"{problem}: {found['reason']}", *found["lines"]]) + "\n"
        lines = [line for path in logs.glob("*_0_log.err") for line in path.read_text(errors="replace").splitlines()]
        lines = [line for line in lines if line.strip()][-LINES:]
        return "\n  ".join([problem, *lines]) + "\n" if lines else problem

    def _remedy(self, job_id: str | None) -> str:
        return f"read {self.folder / str(job_id)}; the next start goes on from the newest checkpoint"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One launcher at a time looks and submits. Raises UserError when another does not come to an end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "launch.lock", "a+") as lock:
            if not until(lambda: _lock(lock), LOCK_SECONDS, every=0.5):
                raise UserError(
                    f"another launcher has been submitting {self.job_name} for {LOCK_SECONDS} s",
                    f"the lock {lock.name} to be free",
                    f"end the process that holds it (`fuser {lock.name}`)",
                )
            yield


def _lock(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    """A second name costs no space and leaves the job's own file when Snakemake deletes an output."""
    try:
        os.link(source, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
