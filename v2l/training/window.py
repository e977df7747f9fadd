"""Averages over the steps between two lines of the metrics file."""

import torch
from torch import Tensor


class Means:
    """Mean values of the steps since the last `close`."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.steps: dict[str, int] = {}
        self.sums: dict[str, float] = {}

    def add(self, values: dict[str, float]) -> None:
        """Take in the values of one step. A value that some steps do not have is averaged over those that do."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.steps[name] = self.steps.get(name, 0) + 1

    def close(self) -> dict[str, float]:
        """The means; then start anew."""
        means = {name: self.sums[name] / self.steps[name] for name in self.sums}
        self._clear()
        return means

    def state_dict(self) -> dict:
        """What was taken in since the last line."""
        return {"steps": self.steps, "sums": self.sums}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.steps, self.sums = dict(state["steps"]), dict(state["sums"])


class Window(Means):
    """Mean losses, and the usage of a codebook of `codes` codes."""

    def __init__(self, codes: int):
        self.codes = codes
        super().__init__()

    def _clear(self) -> None:
        super()._clear()
        self.counts: Tensor | None = None

    def count(self, counts_V: Tensor) -> None:
        """Take in how often each code was used in one step; they stay on their device until `close`."""
        known_V = self.counts
        self.counts = counts_V.clone() if known_V is None else known_V.to(counts_V.device).add_(counts_V)

    def close(self) -> dict[str, float]:
        """Means, `codes_used`, `codes_share` (of the codebook) and `codes_perplexity`; then start anew."""
        counts_V = self._host_counts()
        share = counts_V[counts_V > 0].double() / counts_V.sum()
        usage = {"codes_used": len(share), "codes_share": len(share) / self.codes}
        usage["codes_perplexity"] = float(torch.exp(-(share * share.log()).sum()))
        return super().close() | usage

    def state_dict(self) -> dict:
        return super().state_dict() | {"counts": self._host_counts()}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.counts = state["counts"].clone()

    def _host_counts(self) -> Tensor:
        return torch.zeros(self.codes, dtype=torch.int64) if self.counts is None else self.counts.cpu()
