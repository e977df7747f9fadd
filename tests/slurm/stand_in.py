"""Takes the place of v2l/train_tokenizer.py where a test is about the cluster: the same contract, without torch.

One step takes 0.2 s; rank 0 keeps the number of the next step in a checkpoint every `checkpoint_every` steps, and
writes every start, with its host and first step, to events.log beside it.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from v2l.io.atomic import atomic_path
from v2l.pipeline.stage import run_stage

stop: list[int] = []


def run(config, inputs, outputs) -> None:
    """Count to `max_steps`; fail at step `epochs` if that is below, as a bug would."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: stop.append(number))
    section, rank, work = config.train_tokenizer, int(os.environ.get("RANK", "0")), Path(config.job["work"])
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "checkpoint"
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    if rank == 0:
        names = ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")
        event = {"step": step, "host": socket.gethostname()} | {name: os.environ.get(name) for name in names}
        with open(work / "events.log", "a") as file:
            file.write(json.dumps(event) + "\n")
    while step < section.max_steps:
        time.sleep(0.2)
        step += 1
        if step == section.epochs:
            print("the last words of the stand-in", file=sys.stderr, flush=True)
            sys.exit(3)
        if rank == 0 and (stop or step % section.checkpoint_every == 0):
            save(checkpoint, str(step))
        if stop:
            for number in (signal.SIGTERM, signal.SIGUSR2):  # a second request must not kill what is already leaving
                signal.signal(number, signal.SIG_IGN)
            sys.exit(75)
    if rank == 0:
        for path in outputs.values():
            save(path, f"{step} steps")


def save(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    run_stage(run)
