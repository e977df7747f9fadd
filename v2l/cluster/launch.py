"""Start a training as its rule's resources say: in this process, as several ranks here, or as one SLURM job.

`python -m v2l.cluster.launch launcher=slurm nodes=4 ... -- python -m v2l.train_tokenizer --config ...`: the command
is the stage's own, run by every rank with the environment of torch's distributed package, so all three train alike.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from v2l.errors import UserError
from v2l.training.progress_line import REPORT_SECONDS, progress_line


def main(arguments: list[str]) -> None:
    """Split resources from the stage's command and start it; UserError becomes one line and exit status 1."""
    from v2l.cluster.request import Request

    split = arguments.index("--")
    command = [sys.executable, *arguments[split + 2 :]]
    try:
        request = Request.parse(dict(item.split("=", 1) for item in arguments[:split] if not item.endswith("=")))
        if request.launcher == "slurm":
            run_on_slurm(request, command)
        elif request.local_ranks > 1:
            torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={request.local_ranks}"]
            # Behind `--`, for torchrun would take the stage's `--log` for an option of its own.
            os.execv(sys.executable, [sys.executable, *torchrun, "--module", "--", *command[2:]])
        else:
            os.execv(sys.executable, command)
    except UserError as error:
        logging.error("error: %s", error)
        sys.exit(1)


def run_on_slurm(request, command: list[str]) -> None:
    """Find or submit the training's job, show how it goes, and put its outputs in place when it is done.

    A signal ends the launcher and, as the profile says, the job; a job that goes on is found by the next start.
    """
    from v2l.cluster.request import batch_size_of
    from v2l.cluster.submission import Submission
    from v2l.io.folder_locks import SUBMITTED
    from v2l.pipeline.record import provenance, run_key
    from v2l.training.stopped_run import require_changes

    stage, config, inputs, outputs, log = parse_stage(command)
    _log_to(log)
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: received.append(number))
    key = run_key(config, provenance(config, inputs))
    work = Path(config.job["work"])
    require_changes(work / key, config.train_tokenizer.guard)
    submission = Submission(config.job["tokenizer"], key, work / f"{key}{SUBMITTED}")
    batch_size = batch_size_of(config)
    staged = stage_command(command, submission, outputs)
    try:
        job_id = submission.find_or_submit(request, batch_size, staged)
        state = None
        if job_id:
            state = submission.wait(job_id, LaunchReport(work / key, batch_size), lambda: bool(received))
    finally:
        if received:
            _leave(request, submission, received[0])
    submission.collect(job_id, state, list(outputs.values()))
    logging.info("%s: done", submission.job_name)


def parse_stage(command: list[str]):
    """Stage name, configuration, inputs, outputs and log of a stage's command line."""
    from v2l.pipeline.stage import inputs_of, job_config, outputs_of, stage_parser

    stage = command[command.index("-m") + 1].rsplit(".", 1)[1]
    found: argparse.Namespace = stage_parser(stage).parse_args(command[command.index("-m") + 2 :])
    config = job_config(stage, found.config)
    return stage, config, inputs_of(found.input), outputs_of(found.output), found.log


def stage_command(command: list[str], submission, outputs: dict[str, Path]) -> list[str]:
    """`command` with the job's own outputs and log, and the submitted code (-P: not the code of this folder)."""
    places = {str(path): str(submission.staged(path)) for path in outputs.values()}
    changed = [places.get(word, word) for word in command]
    if "--log" in changed:
        del changed[changed.index("--log") : changed.index("--log") + 2]
    return [changed[0], "-P", *changed[1:]]


class LaunchReport:
    """Shows step, losses, speed and the time left, when there is news and at most every half a minute."""

    def __init__(self, folder: Path, batch_size: int):
        self.folder, self.batch_size, self.shown, self.at = folder, batch_size, -1, 0.0

    def __call__(self) -> None:
        if time.monotonic() - self.at < REPORT_SECONDS:
            return
        try:
            line = json.loads((self.folder / "metrics.jsonl").read_text().splitlines()[-1])
            speed = json.loads((self.folder / "progress.json").read_text())
            if speed["step"] != self.shown:
                self.shown, self.at = speed["step"], time.monotonic()
                logging.info("%s", progress_line(line | speed, self.batch_size))
        except (OSError, ValueError, LookupError, TypeError):  # shown when they are whole
            return


def _leave(request, submission, number: int) -> None:
    """Cancel or keep the job as the profile says, say which, and end."""
    key = "on_interrupt" if number == signal.SIGINT else "on_terminate"
    name = signal.Signals(number).name
    if getattr(request, key) == "cancel":
        logging.info("%s: cancelled SLURM job %s (%s: cancel)", name, ", ".join(submission.cancel()) or "none", key)
    else:
        logging.info("%s: %s goes on, the next start finds it (%s: keep)", name, submission.job_name, key)
    logging.shutdown()
    os._exit(128 + number)


def _log_to(path: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s launch: %(message)s", handlers=handlers, force=True)


if __name__ == "__main__":
    main(sys.argv[1:])
