"""The entry point that every stage module shares.

A rule passes its own slice of the configuration as canonical JSON; `StageConfig` is that slice, typed.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from v2l.configuration.extensions import load_inherited
from v2l.configuration.slices import StageConfig
from v2l.errors import HarmlessFormatter, UserError
from v2l.io.claims import claimed
from v2l.io.disk_errors import disk_error, disk_errors_named
from v2l.io.file_hashes import CACHE
from v2l.io.folder_locks import sweep_unfinished
from v2l.io.job_files import Inputs, Outputs
from v2l.pipeline.code_files import code_of
from v2l.pipeline.machines import write_machine
from v2l.runtime import compute_in_one_thread


def stage_parser(stage: str) -> argparse.ArgumentParser:
    """The command line that every stage shares; `inputs_of` and `outputs_of` read its files."""
    parser = argparse.ArgumentParser(prog=f"python -m v2l.{stage}")
    parser.add_argument("--config", required=True)
    parser.add_argument("--input", nargs="+", action="append", default=[], metavar=("NAME", "PATH"))
    parser.add_argument("--output", nargs=2, action="append", default=[], metavar=("NAME", "PATH"))
    parser.add_argument("--code", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--machine", type=_setting, action="append", default=[], metavar="KEY=VALUE")
    return parser


def run_stage(run: Callable[[StageConfig, Inputs, Outputs], None]) -> None:
    """Parse a stage's command line, call `run(config, inputs, outputs)` and report the outcome in one line.

    Arguments: `--config JSON`, `--input NAME PATH...` and `--output NAME PATH` (repeatable), `--code NAME...` (see
    `v2l.pipeline.code_files`), `--log FILE`, `--machine KEY=VALUE` (repeatable).
    """
    stage = Path(str(sys.modules[run.__module__].__file__)).stem
    arguments = stage_parser(stage).parse_args()
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    is_first = os.environ.get("RANK", "0") == "0"  # of several ranks, which writes the files
    try:
        if arguments.log and is_first:
            with disk_errors_named(arguments.log):
                arguments.log.parent.mkdir(parents=True, exist_ok=True)
                handlers.append(logging.FileHandler(arguments.log, mode="w"))
    except UserError as error:
        sys.exit(f"{stage}: error: {error}")
    logging.raiseExceptions = False  # a full disk must not hide what is said on the screen
    for handler in handlers:
        handler.setFormatter(HarmlessFormatter(f"{stage}: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    for library in ("fontTools", "httpx", "httpx2", "matplotlib", "PIL", "transformers"):
        logging.getLogger(library).setLevel(logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    compute_in_one_thread()
    try:
        config = job_config(stage, arguments.config, dict(arguments.machine), arguments.code)
        code_of(config.code)  # is remembered: what is edited while the job runs, it does not run
        outputs = outputs_of(arguments.output)
        with claimed(outputs.values() if is_first else ()):
            sweep_unfinished([CACHE, *(path.parent for path in outputs.values())])
            run(config, inputs_of(arguments.input), outputs)
        if arguments.log and is_first:
            with suppress(OSError, UserError):  # the results are there
                write_machine(arguments.log)
    except Exception as error:
        if named := error if isinstance(error, UserError) else disk_error(error):
            logging.error("error: %s", named)
        else:
            logging.exception("failed")
        sys.exit(1)


def job_config(stage: str, text: str, machine: dict[str, str] | None = None, code: Sequence[str] = ()) -> StageConfig:
    """The slice of a job of `stage` from its JSON `text`, once the extensions that it may name are imported."""
    load_inherited()
    return StageConfig(stage, json.loads(text), machine, code)


def _setting(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def inputs_of(pairs: list[list[str]]) -> Inputs:
    """The files behind each name of `--input`."""
    return Inputs({name: [Path(path) for path in paths] for name, *paths in pairs})


def outputs_of(pairs: list[list[str]]) -> Outputs:
    """The file behind each name of `--output`."""
    return {name: Path(path) for name, path in pairs}
