"""Checkpoints of a training run: one folder per run, one file per step, whole or not there."""

import errno
import logging
from pathlib import Path

import torch

from v2l.errors import UserError, printable
from v2l.io.atomic import atomic_path
from v2l.io.digests import BLANK, DamagedFile, require_sealed, seal
from v2l.io.disk_errors import disk_error
from v2l.io.pickles import BROKEN, unpicklable
from v2l.memory_errors import is_out_of_memory

KEEP = 2
OF_THE_CONTENT = (None, errno.ENOENT, errno.EINVAL)  # errno of a file that is gone, or leads its reader astray


def save_checkpoint(folder: Path, step: int, state: dict) -> None:
    """Write `state` as it stands before `step`; older checkpoints but the newest two go."""
    path = folder / f"step-{step:09d}.pt"
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:  # torch's own writer does not say why it fails
            torch.save(state, file)
            file.write(BLANK)  # archives may have something behind them
        seal(temporary)
    for old in [file for file in _files(folder) if file <= path][KEEP:]:  # later ones are broken, and will be replaced
        old.unlink()


def newest_checkpoint(folder: Path) -> dict | None:
    """The state of the newest checkpoint that can be read, on the CPU, or None. Broken ones are passed over.

    One that only cannot be read now is none of them: raises UserError if the disk refuses, and what PyTorch raises if
    it does not fit in memory.
    """
    for path in _files(folder):
        try:
            require_sealed(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict) and isinstance(state.get("step"), int):
                return state
            reason = "it holds no step"
        except DamagedFile as error:
            reason = error.reason
        except BROKEN as error:
            if is_out_of_memory(error):
                raise
            if refused := _refused(path, error):
                raise refused from error
            reason = unpicklable(error)
        logging.warning("checkpoint %s is broken (%s): trying the one before", path, reason)
    return None


def _refused(path: Path, error: Exception) -> UserError | None:
    """What to say if `error` is no fault of the checkpoint's content, but of the way to it."""
    if isinstance(error, OSError) and error.errno in OF_THE_CONTENT:
        return None
    if isinstance(error, OSError) and not disk_error(error, path):
        problem = f"{printable(str(path))} cannot be read: {error}"
        return UserError(problem, "a checkpoint that can be read", "look after the disk, and run again")
    return disk_error(error, path)


def _files(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)
