"""How far an evaluation is: the bar on the screen, and the journal that an interrupted run goes on from."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

Rows = list[list[int]]


class Journal:
    """The part of a run that one process does, as a context manager.

    Finished batches are lines of `<folder>/batches.<shard>.jsonl`, each prompt named by a hash of everything its answer
    depends on. Those of every file there count, so that a run may go on with another number of shards, and with batches
    of another size. A line that a kill cut short is passed over.
    """

    def __init__(self, title: str, total: int, folder: Path | None = None, shard: int = 0):
        self.shard = shard
        self._title, self._total, self._folder = title, total, folder
        self._known: dict[str, list[int]] = {}
        self._journal: TextIO | None = None

    def __enter__(self) -> "Journal":
        self._bar = tqdm(total=self._total, desc=self._title, disable=None)
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self._folder.glob("batches.*.jsonl")):
                self._known |= dict(_lines(path.read_text()))
            self._journal = open(self._folder / f"batches.{self.shard}.jsonl", "a")  # noqa: SIM115
            self._journal.write("\n")  # ends a line that was cut short
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
            self._journal.write(json.dumps([keys, rows], separators=(",", ":")) + "\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())

    def finish(self) -> None:
        """Move the bar to its end: predictors without a language model do not report."""
        self._bar.update(self._bar.total - self._bar.n)


def _lines(text: str) -> Iterator[tuple[str, list[int]]]:
    for line in text.splitlines():
        try:
            keys, rows = json.loads(line)
            answers = list(zip(keys, rows, strict=True))
        except ValueError:
            continue
        yield from answers
