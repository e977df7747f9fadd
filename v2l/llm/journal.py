"""How far an evaluation is: the bar on the screen, and the journal that an interrupted run goes on from."""

import os
from io import FileIO
from pathlib import Path

from tqdm import tqdm

from v2l.io.disk_errors import disk_errors_named
from v2l.io.sealed_lines import read_sealed_lines, sealed_line

Rows = list[list[int]]


class Journal:
    """The part of a run that one process does, as a context manager.

    Finished batches are lines of `<folder>/batches.<shard>.jsonl`, each prompt named by a hash of everything its answer
    depends on. Those of every file there count, so that a run may go on with another number of shards, and with batches
    of another size. A line holds a digest of itself: one that is cut short or damaged is passed over with its name, and
    its prompts are asked again.
    """

    def __init__(self, title: str, total: int, folder: Path | None = None, shard: int = 0):
        self.shard = shard
        self._title, self._total, self._folder = title, total, folder
        self._known: dict[str, list[int]] = {}
        self._journal: FileIO | None = None

    def __enter__(self) -> "Journal":
        self._bar = tqdm(total=self._total, desc=self._title, disable=None)
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.glob("batches.*.jsonl")):
                for keys, rows in read_sealed_lines(path):
                    self._known |= zip(keys, rows, strict=True)
            self._path = self._folder / f"batches.{self.shard}.jsonl"
            with disk_errors_named(self._path):
                self._journal = open(self._path, "ab", buffering=0)  # noqa: SIM115
                if self._journal.tell():
                    self._journal.write(b"\n")  # ends a line that was cut short
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
        if self._journal:
            self._journal.close()

    def known(self, key: str) -> list[int] | None:
        """What an earlier run answered to prompt `key`, or None."""
        answer = self._known.get(key)
        if answer is not None:
            self._bar.update()
        return answer

    def add(self, keys: list[str], rows: Rows) -> None:
        """Keep the answers to the prompts `keys` of a batch; after this call no kill loses them."""
        self._bar.update(len(rows))
        if self._journal:
            with disk_errors_named(self._path):
                line = memoryview(sealed_line([keys, rows]))
                while line:  # a full disk takes a part
                    line = line[self._journal.write(line) :]
                os.fsync(self._journal.fileno())

    def finish(self) -> None:
        """Move the bar to its end: predictors without a language model do not report."""
        self._bar.update(self._bar.total - self._bar.n)
