"""The metrics file of a training: a JSON line for the steps since the last one."""

from v2l.io.canonical import canonical_json
from v2l.training.window import Means


class MetricsLines:
    """The lines so far, and in `window` the values since the last of them."""

    def __init__(self, window: Means):
        self.window = window
        self.lines: list[str] = []

    def append(self, values: dict[str, float]) -> None:
        """Write a line."""
        self.lines.append(canonical_json(values))

    @property
    def text(self) -> str:
        """The whole metrics file."""
        return "".join(line + "\n" for line in self.lines)

    def state_dict(self) -> dict:
        """Lines so far and the open window."""
        return {"lines": self.lines, "window": self.window.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.lines = list(state["lines"])
        self.window.load_state_dict(state["window"])
