"""Where an interrupted job finds what it had done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v2l.configuration.slices import StageConfig
from v2l.io.folder_locks import in_use, sweep_other_runs, sweep_unfinished
from v2l.pipeline.record import run_key


@contextmanager
def run_folder(config: StageConfig, record: dict) -> Iterator[Path]:
    """The folder of `job.work` that is named by the hash of configuration and inputs, held until the block ends.

    Those of runs with other ones are swept, and what killed processes left in it and in `job.logs`.
    """
    folder = Path(config.job["work"]) / run_key(config, record)
    sweep_other_runs(folder)
    sweep_unfinished([folder, *map(Path, filter(None, [config.job.get("logs")]))])
    with in_use(folder):
        yield folder
