"""Checkpoints of a training run: one folder per run, one file per step, whole or not there."""

import logging
from pathlib import Path

import torch

from v2l.io.atomic import atomic_path
from v2l.io.pickles import BROKEN, unpicklable

KEEP = 2


def save_checkpoint(folder: Path, step: int, state: dict) -> None:
    """Write `state` as it stands before `step`; older checkpoints but the newest two go."""
    with atomic_path(folder / f"step-{step:09d}.pt") as temporary:
        torch.save(state, temporary)
    for old in _files(folder)[KEEP:]:
        old.unlink()


def newest_checkpoint(folder: Path) -> dict | None:
    """The state of the newest checkpoint that can be read, on the CPU, or None. Broken ones are passed over."""
    for path in _files(folder):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except BROKEN as error:
            logging.warning("checkpoint %s is broken (%s): trying the one before", path, unpicklable(error))
    return None


def _files(folder: Path) -> list[Path]:
    """Newest first; unfinished temporary files begin with a dot and are not among them."""
    return sorted(folder.glob("step-*.pt"), reverse=True)
