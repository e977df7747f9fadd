"""What stands behind the report: files with their records, and which run each belongs to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2l.configuration.runs import Run
from v2l.configuration.sources import PAPER, Source
from v2l.errors import UserError
from v2l.pipeline.check_results import read_record


@dataclass(frozen=True)
class Evidence:
    """A result file and the record of what made it (`v2l.pipeline.record.provenance`)."""

    path: Path
    record: dict[str, Any]

    @property
    def job(self) -> dict[str, str]:
        """The wildcards of the job that made it."""
        return self.record["config"]["job"]

    @property
    def run(self) -> Run:
        """The run that it belongs to: predictions, images and scores of one run share it."""
        if "source" in self.job:
            return Run(self.job["tokenizer"], Source.parse(self.job["source"]))
        predictor, protocol = self.job["predictor"], self.job.get("protocol", PAPER)
        return Run(self.job["tokenizer"], Source(self.job["task"], predictor, protocol))


def evidence(paths: Iterable[Path]) -> list[Evidence]:
    """The files with their records. Raises UserError for a file that has none or is damaged."""
    found = []
    for path in paths:
        if (record := read_record(path)) is None:
            raise UserError(f"{path} has no record of what made it", "a result of this pipeline", "make it again")
        found.append(Evidence(path, record))
    return found


def anchor(*parts: object) -> str:
    """A name for a place in the page, of letters, digits and `-_.`; different parts have different names."""
    return "-".join(re.sub(r"[^A-Za-z0-9_.]", lambda found: f"_{ord(found[0]):x}", str(part)) for part in parts)
