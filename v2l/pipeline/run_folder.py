"""Where an interrupted job finds what it had done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v2l.configuration.slices import StageConfig
from v2l.io.folder_locks import in_use, sweep_other_runs
from v2l.pipeline.record import run_key


@contextmanager
def run_folder(config: StageConfig, record: dict) -> Iterator[Path]:
    """The folder of `job.work` that is named by the hash of configuration and inputs, held until the block ends.

    Those of runs with other ones are swept: they can be continued no more.
    """
    folder = Path(config.job["work"]) / run_key(config, record)
    sweep_other_runs(folder)
    with in_use(folder):
        yield folder
