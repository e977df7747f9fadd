"""One rank of a training inside a SLURM job: it runs the stage and does what survives the cluster."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from submitit import JobEnvironment
from submitit.helpers import TorchDistributedEnvironment

from v2l.configuration.extensions import VARIABLE
from v2l.errors import INTERRUPTED
from v2l.io.json_records import write_json

LINES = 15


class TrainingTask:
    """Runs `command` with the environment of torch's distributed package; `folder` is shared by ranks and launcher.

    `code` holds the package, `extensions` are paths of the run's extensions.

    USR2 (time limit near, preemption) and TERM (preemption, cancellation) become a request to stop at the next step
    boundary. After USR2 the job is requeued here; after TERM only SLURM knows whether it ends or starts again.
    """

    def __init__(self, command: list[str], code: Path, extensions: list[str], folder: Path, restarts: int):
        self.command, self.code, self.extensions = command, code, extensions
        self.folder, self.restarts = folder, restarts
        self.received: set[int] = set()

    def __call__(self) -> None:
        os.environ.pop("MASTER_PORT", None)
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        job = JobEnvironment()
        if (restart := int(os.environ.get("SLURM_RESTART_COUNT", "0"))) > self.restarts:
            reason = f"started again {restart} times, more often than `restarts` of the profile ({self.restarts})"
            self._fail(job, reason, [])
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, lambda number, frame: self.received.add(number))
        print(f"rank {job.global_rank} of {job.num_tasks} on {job.hostname}, restart {restart}", flush=True)
        code = self._run()
        if code == 0:
            if job.global_rank == 0:
                write_json(self.folder / "done.json", {"job_id": job.job_id, "restarts": restart}, indent=None)
            return
        if self.received and code in (INTERRUPTED, -signal.SIGUSR2, -signal.SIGTERM):
            if signal.SIGUSR2 in self.received and job.global_rank == 0:
                subprocess.run(["scontrol", "requeue", job.job_id], timeout=60)
            # SLURM ends this process: now for a requeue, at the end of the grace time for a preemption. An exit code
            # of our own would end the job instead, and take the rank that requeues with it.
            time.sleep(600)
            self._fail(job, "stopped at a checkpoint, and SLURM did not start it again", [])
        self._fail(job, f"rank {job.global_rank} on {job.hostname} ended with exit code {code}", self._last_lines(job))

    def _run(self) -> int:
        environment = os.environ | {"PYTHONPATH": str(self.code), VARIABLE: os.pathsep.join(self.extensions)}
        process = subprocess.Popen(self.command, env=environment, preexec_fn=_ignore_requests)
        asked = 0.0
        while process.poll() is None:
            # Asked again and again: a process that is still importing does not listen.
            if self.received and time.monotonic() - asked > 5:
                process.send_signal(signal.SIGUSR2)
                asked = time.monotonic()
            time.sleep(0.2)
        return process.returncode

    def _last_lines(self, job: JobEnvironment) -> list[str]:
        lines = job.paths.stderr.read_text(errors="replace").splitlines() if job.paths.stderr.exists() else []
        return [line for line in lines if line.strip()][-LINES:]

    def _fail(self, job: JobEnvironment, reason: str, lines: list[str]) -> None:
        """Leave the reason for the launcher, unless another rank failed before, and end."""
        restart = os.environ.get("SLURM_RESTART_COUNT", "0")
        with suppress(FileExistsError), open(self.folder / job.job_id / f"failure.{restart}.json", "x") as file:
            file.write(json.dumps({"reason": reason, "lines": lines}))
        sys.exit(1)


def _ignore_requests() -> None:
    """Until the stage listens, a request must not kill it."""
    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
