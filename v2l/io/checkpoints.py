"""Checkpoints of a training run: one folder per run, one file per step, whole or not there."""

import hashlib
import logging
import pickle
from pathlib import Path

import torch

from v2l.config import canonical_json
from v2l.io.atomic import atomic_path
from v2l.stage import StageConfig

KEEP = 2


def run_key(config: StageConfig, record: dict) -> str:
    """Hash of all that decides the result: the configuration without its folders, and the inputs' contents."""
    job = {key: value for key, value in config.job.items() if key not in ("work", "logs")}
    hashes = {name: [file["sha256"] for file in files] for name, files in record["inputs"].items()}
    return hashlib.sha256(canonical_json([config.data | {"job": job}, hashes]).encode()).hexdigest()[:16]


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
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            logging.warning("checkpoint %s is broken (%s): trying the one before", path, str(error).splitlines()[0])
    return None


def _files(folder: Path) -> list[Path]:
    """Newest first; unfinished temporary files begin with a dot and are not among them."""
    return sorted(folder.glob("step-*.pt"), reverse=True)
