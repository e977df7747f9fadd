"""One stage as several processes: each makes every n-th block of the work, and their files become one."""

import itertools
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.folder_locks import in_use, sweep_other_runs
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import open_parquet, parquet_writer
from v2l.pipeline.record import run_key

PART = "part"
Block = TypeVar("Block")


def sharded_tables(
    config: StageConfig,
    record: dict,
    inputs: Inputs,
    outputs: Outputs,
    blocks: Sequence[Block],
    tables: Callable[[Sequence[Block]], Iterable[pa.Table]],
    folder: Path | None = None,
) -> Iterator[pa.Table]:
    """The table of every block, in order: `tables(blocks)` makes them, one for each block and of that block alone.

    The machine settings `shards` (number of processes) and `launcher` (a command that starts each of them, for example
    srun) decide who makes a block, never what it holds. A process that is a shard of another's work writes its tables
    to output `part` and ends here: a stage writes nothing before this call. Parts stand in `folder`, else in a folder
    beside the first output, which goes once they are read. Raises UserError if a shard fails.
    """
    shards = min(int(config.machine.get("shards", 1)), len(blocks))
    if (shard := config.machine.get("shard")) is not None:
        _write_part(outputs[PART], tables(blocks[int(shard) :: shards]), record)
        raise SystemExit(0)
    if shards < 2:
        return iter(tables(blocks))
    if folder:
        return merged(run_shards(config, inputs, folder, shards))
    output = next(iter(outputs.values()))
    folder = output.parent / f".{output.name}.{run_key(config, record)}"
    sweep_other_runs(folder)
    with in_use(folder):
        paths = run_shards(config, inputs, folder, shards)
    return _merged_from(folder, paths)


def run_shards(config: StageConfig, inputs: Inputs, folder: Path, count: int) -> list[Path]:
    """The files of `count` shards in `folder`: output `part` of as many processes of the stage.

    Without the machine setting `launcher` the GPUs of this machine are shared out among the processes; a launcher such
    as `srun` does that itself. A shard whose file is there is not run again. Raises UserError if one fails, once the
    others have ended.
    """
    launcher = config.machine.get("launcher", "")
    paths = [folder / f"shard-{shard}-of-{count}.parquet" for shard in range(count)]
    files = [word for name in inputs for word in ("--input", name, *map(str, inputs.files(name)))]
    processes = {}
    for shard, path in enumerate(paths):
        if path.exists():
            continue
        machine = config.machine | {"shard": str(shard), "shards": str(count)}
        command = [*shlex.split(launcher), sys.executable, "-m", f"v2l.{config.stage}", "--config", config.text, *files]
        settings = [word for pair in machine.items() for word in ("--machine", "=".join(pair))]
        command += ["--output", PART, str(path), *settings]
        processes[shard] = subprocess.Popen(command, env=_environment(shard, count, launcher))
    failed = [shard for shard, process in processes.items() if process.wait()]
    if failed:
        raise UserError(
            f"shards {', '.join(map(str, failed))} of {count} failed",
            "every shard to end well",
            "read their messages above and run again: what the others made is kept",
        )
    logging.info("%d shards done", count)
    return paths


def merged(paths: list[Path]) -> Iterator[pa.Table]:
    """The tables of all shards in the order of an unsharded run: block b is row group b // n of shard b mod n."""
    files = [open_parquet(path) for path in paths]
    for block in range(sum(file.num_row_groups for file in files)):
        yield files[block % len(files)].read_row_group(block // len(files)).replace_schema_metadata()


def _merged_from(folder: Path, paths: list[Path]) -> Iterator[pa.Table]:
    with in_use(folder):
        yield from merged(paths)
    shutil.rmtree(folder, ignore_errors=True)


def _write_part(path: Path, tables: Iterable[pa.Table], record: dict) -> None:
    tables = iter(tables)
    first = next(tables)
    with parquet_writer(path, first.schema, record) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table.cast(writer.schema), row_group_size=max(1, len(table)))


def _environment(shard: int, count: int, launcher: str) -> dict[str, str]:
    gpus: list[str] = []
    if not launcher:
        import torch

        gpus = [str(gpu) for gpu in range(torch.cuda.device_count())]
    if len(gpus) < 2:
        return dict(os.environ)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(gpus)).split(",")
    mine = visible[shard::count] or [visible[shard % len(visible)]]
    return os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
