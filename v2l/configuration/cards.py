"""Cards that an experiment can run on, and machines made of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, ValidationError

from v2l.configuration.entry import Entry
from v2l.configuration.registry import nearest
from v2l.errors import UserError
from v2l.io.yaml_files import read_mapping

CARDS = Path("config/cards.yaml")
LOCKED_BUILD = 7.5  # compute capability at which the locked build of PyTorch begins


class Card(Entry):
    """A kind of processor; `peaks` in TFLOP/s by precision, of dense matrix products."""

    memory_gb: float | None = Field(gt=0, description="Memory in 10^9 bytes; null: the host's.")
    compute_capability: float | None = Field(description="NVIDIA's number of its instruction set; null: no such card.")
    peaks: dict[str, float] = Field(description="TFLOP/s by precision.")
    source: str = Field(description="Where the figures are from.")
    measured: dict[str, str] = Field({}, description="Precision -> what was measured instead.")

    def precision_for(self, wanted: str) -> str:
        """`wanted`, or float32 where the card does not have it."""
        return wanted if wanted in self.peaks else "float32"

    @property
    def needs_older_build(self) -> bool:
        """Whether the locked build of PyTorch has no code for it."""
        return self.compute_capability is not None and self.compute_capability < LOCKED_BUILD


class Machine(NamedTuple):
    """`number` cards of one kind."""

    number: int
    name: str
    card: Card

    @classmethod
    def parse(cls, text: str, cards: Mapping[str, Card]) -> Self:
        """`8 A100-80GB`. Raises UserError for a card that is not known."""
        count, name = text.split()
        if name not in cards:
            problem = f"`plan.machines` names card {name!r}; {nearest(name, list(cards))}"
            raise UserError(problem, f"one of {', '.join(cards)}", f"correct the name, or add the card to {CARDS}")
        return cls(int(count), name, cards[name])

    def __str__(self) -> str:
        return f"{self.number} {self.name}"


def read_cards(path: Path = CARDS) -> dict[str, Card]:
    """Every card of the file by its name. Raises UserError for a file that does not hold cards."""
    keys = f"a mapping of names to {', '.join(Card.model_fields)}"
    entries = read_mapping(path, keys)
    try:
        return {name: Card.model_validate(entry) for name, entry in entries.items()}
    except ValidationError as error:
        problem = f"{path} cannot be read as cards ({' '.join(str(error).split())[:300]})"
        raise UserError(problem, keys, "mend the file") from None
