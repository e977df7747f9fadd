"""Checkpoints of a training run: one folder per run, one file per step, whole or not there."""

import logging
from pathlib import Path

import torch

from v2l.io.atomic import atomic_path
from v2l.io.digests import BLANK, DamagedFile, require_whole, seal
from v2l.io.pickles import BROKEN, unpicklable

KEEP = 2


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
    """The state of the newest checkpoint that can be read, on the CPU, or None. Broken ones are passed over."""
    for path in _files(folder):
        try:
            require_whole(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict) and isinstance(state.get("step"), int):
                return state
            reason = "it holds no step"
        except DamagedFile as error:
            reason = error.reason
        except BROKEN as error:
            reason = unpicklable(error)
        logging.warning("checkpoint %s is broken (%s): trying the one before", path, reason)
    return None


def _files(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)
