"""Folders of unfinished work: held by whoever lives, and swept when nobody does.

The lock is the kernel's (`flock`), which forgets it when a process is killed, and which network disks share.
"""

import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from v2l.errors import UserError

LOCK = ".lock"
UNFINISHED = re.compile(r"\..+\.part-[a-z0-9_]{8}")  # folders of `atomic_path`
RUN = re.compile(r"[0-9a-f]{16}")  # how folders of interrupted runs end, see `v2l.pipeline.record.run_key`
SUBMITTED = ".slurm"  # ending of the folder of a run's submission, beside those of runs
PATIENCE_SECONDS = 60  # for which a process waits for another that is alone in a folder
UNLOCKED_SECONDS = 24 * 3600  # for which a folder without a lock is left: one of an earlier version may be in use


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it until the block ends, with other processes that do: nobody sweeps it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(folder / LOCK, "ab")  # noqa: SIM115
        except FileNotFoundError:
            continue  # swept since
        with lock:
            with suppress(OSError):  # a disk without locks, where nothing is swept
                fcntl.flock(lock, fcntl.LOCK_SH)
            if (folder / LOCK).exists():
                yield
                return


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make `folder` and run the block while no other process runs one in it; on a disk without locks at once.

    Raises UserError if another's does not end in a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # of another user, who shares the folder
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        _wait_for(lock, folder / LOCK)
        yield
    finally:
        os.close(lock)


def _wait_for(lock: int, path: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                problem = f"{path} is held by another process, which does nothing"
                raise UserError(problem, "leave to go on", "end it (`fuser` shows it), and run again") from None
            time.sleep(0.05)
        except OSError:
            return None


def sweep_unfinished(folders: Iterable[Path]) -> None:
    """Remove from `folders` what `atomic_path` left there in processes that were killed."""
    for folder in set(folders):
        _sweep(path for path in _entries(folder) if UNFINISHED.fullmatch(path.name))


def sweep_other_runs(folder: Path) -> None:
    """Remove the folders beside `folder` of runs with another key, except for those that are in use.

    With submissions beside them all stay: a run may wait in a queue, where nothing holds a lock.
    """
    if any(folder.parent.glob(f"*{SUBMITTED}")):
        return
    prefix = folder.name[:-16]
    others = (path for path in _entries(folder.parent) if path.name.startswith(prefix) and path != folder)
    _sweep(path for path in others if RUN.fullmatch(path.name[len(prefix) :]))


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _sweep(folders: Iterable[Path]) -> None:
    for folder in folders:
        if _removed(folder):
            logging.info("removed %s, which an earlier run left unfinished", folder)


def _removed(folder: Path) -> bool:
    """Remove a folder with all it holds unless it is in use; whether it was."""
    try:
        with open(folder / LOCK, "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:
        with suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > UNLOCKED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    return not folder.exists()
