"""Which share of a card's peak each stage reaches: measured by the benchmarks, else assumed."""

import json
from pathlib import Path
from typing import Any, NamedTuple, Self

from v2l.errors import UserError

ASSUMED = 0.2  # of the peak, for a stage that nobody measured


class PeakShare(NamedTuple):
    """A share of the peak, and what to say of it."""

    value: float
    note: str = ""


class Efficiencies(NamedTuple):
    """`stages[stage][precision]` holds `share_of_limit`, also by part, as `evaluate_llm.restoration`.

    `device` is what it was measured on.
    """

    device: str
    stages: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Self:
        """The benchmarks' JSON. Raises UserError for a file without shares between 0 and 1."""
        try:
            data = json.loads(path.read_text())
            found = cls(str(data.get("device", "unknown")), data["stages"])
            shares = [float(row["share_of_limit"]) for stage in found.stages.values() for row in stage.values()]
            problem = "" if all(0 < share <= 1 for share in shares) else "a share is not above 0 and at most 1"
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            raise UserError(
                f"`plan.efficiencies`: {path} cannot be used ({problem})",
                '{"device": ..., "stages": {stage: {precision: {"share_of_limit": 0.3}}}}',
                "write it with `python -m benchmarks`, or name config/efficiencies.json",
            )
        return found

    def share(self, stage: str, precision: str, part: str = "") -> PeakShare:
        """The share of a stage, or of a `part` measured by itself: as measured, of its slowest other precision, or
        ASSUMED. A part that was not measured is as slow as the slowest."""
        rows = self._rows(stage, part)
        if precision in rows:
            return PeakShare(rows[precision])
        if rows:
            return PeakShare(min(rows.values()), f"{stage} was not measured in {precision}: its lowest share of others")
        return PeakShare(ASSUMED, f"{stage} was not measured: {ASSUMED:.0%} of the peak assumed")

    def _rows(self, stage: str, part: str) -> dict[str, float]:
        """Shares by precision."""
        parts = [name for name in self.stages if name.startswith(f"{stage}.")]
        exact = [name for name in (f"{stage}.{part}", stage) if name in self.stages]
        shares: dict[str, float] = {}
        for name in exact[:1] or parts:
            for precision, row in self.stages[name].items():
                shares[precision] = min(float(row["share_of_limit"]), shares.get(precision, 1.0))
        return shares
