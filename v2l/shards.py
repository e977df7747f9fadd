"""One evaluation as several processes: each answers every n-th block, and their files become one."""

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from v2l.errors import UserError
from v2l.stage import Paths, StageConfig


def run_shards(config: StageConfig, inputs: Paths, folder: Path, count: int, launcher: str) -> list[Path]:
    """The files of `count` shards, each written to `folder` by a process of the stage, started behind `launcher`.

    Without a launcher the GPUs of this machine are shared out among the processes; a launcher such as `srun` does that
    itself. A shard whose file is there is not run again. Raises UserError if one fails, once the others have ended.
    """
    paths = [folder / f"shard-{shard}-of-{count}.parquet" for shard in range(count)]
    files = [word for name, path in inputs.items() for word in ("--input", name, *map(str, _as_list(path)))]
    processes = {}
    for shard, path in enumerate(paths):
        if path.exists():
            continue
        machine = config.machine | {"shard": str(shard), "shards": str(count)}
        command = [*shlex.split(launcher), sys.executable, "-m", f"v2l.{config.stage}", "--config", config.text, *files]
        settings = [word for pair in machine.items() for word in ("--machine", "=".join(pair))]
        command += ["--output", "predictions", str(path), *settings]
        processes[shard] = subprocess.Popen(command, env=_environment(shard, count, launcher))
    failed = [shard for shard, process in processes.items() if process.wait()]
    if failed:
        raise UserError(
            f"shards {', '.join(map(str, failed))} of {count} failed",
            "every shard to end well",
            "read their messages above and run again: finished batches are kept",
        )
    logging.info("%d shards done", count)
    return paths


def merged(paths: list[Path]) -> Iterator[pa.Table]:
    """The tables of all shards in the order of an unsharded run: block b is row group b // n of shard b mod n."""
    files = [pq.ParquetFile(path) for path in paths]
    for block in range(sum(file.num_row_groups for file in files)):
        yield files[block % len(files)].read_row_group(block // len(files))


def _environment(shard: int, count: int, launcher: str) -> dict[str, str]:
    gpus = [] if launcher else [str(gpu) for gpu in range(torch.cuda.device_count())]
    if len(gpus) < 2:
        return dict(os.environ)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(gpus)).split(",")
    mine = visible[shard::count] or [visible[shard % len(visible)]]
    return os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(mine)}


def _as_list(paths: Path | list[Path]) -> list[Path]:
    return paths if isinstance(paths, list) else [paths]
