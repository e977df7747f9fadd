"""Averages over the steps between two lines of the metrics file."""

import torch
from torch import Tensor


class Window:
    """Mean losses and codebook usage since the last `close`."""

    def __init__(self, codes: int):
        self.codes = codes
        self._clear()

    def _clear(self) -> None:
        self.steps: dict[str, int] = {}
        self.sums: dict[str, float] = {}
        self.counts = torch.zeros(self.codes, dtype=torch.int64)

    def add(self, losses: dict[str, float], counts_V: Tensor) -> None:
        """Take in one step: losses, and how often each code was used.

        A loss that some steps do not have is averaged over those that do.
        """
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.steps[name] = self.steps.get(name, 0) + 1
        self.counts += counts_V.cpu()

    def close(self) -> dict[str, float]:
        """Means, `codes_used`, `codes_share` (of the codebook) and `codes_perplexity`; then start anew."""
        share = self.counts[self.counts > 0].double() / self.counts.sum()
        means = {name: self.sums[name] / self.steps[name] for name in self.sums}
        usage = {"codes_used": len(share), "codes_share": len(share) / self.codes}
        usage["codes_perplexity"] = float(torch.exp(-(share * share.log()).sum()))
        self._clear()
        return means | usage

    def state_dict(self) -> dict:
        """What was taken in since the last line."""
        return {"steps": self.steps, "sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.steps, self.sums, self.counts = dict(state["steps"]), dict(state["sums"]), state["counts"].clone()
