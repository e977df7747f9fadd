"""Whether this machine's GPUs can run the jobs of a run: said before the first of them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from v2l.configuration.cards import Card
from v2l.configuration.config import Config
from v2l.configuration.entry import PRECISION
from v2l.configuration.model_entries import LLM
from v2l.configuration.slices import marked
from v2l.errors import UserError
from v2l.gpu_support import Capability, require_code, require_precision
from v2l.llm.model_facts import precision_of

QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
ARCHITECTURES = "import torch; print(torch._C._cuda_getArchFlags() or '' if torch.version.cuda else '')"


class FoundCard(NamedTuple):
    """A GPU: its name and compute capability."""

    name: str
    capability: Capability


def local_cards() -> list[FoundCard]:
    """The kinds of GPUs of this machine; none where the driver's tool is absent or answers nothing."""
    if not shutil.which(QUERY[0]):
        return []
    lines = subprocess.run(QUERY, capture_output=True, text=True).stdout.splitlines()
    rows = [line.rpartition(",") for line in dict.fromkeys(lines) if line.rpartition(",")[2].strip()[:1].isdigit()]
    return [FoundCard(name.strip(), _capability(capability)) for name, _, capability in rows]


def cards_of_nodes(resources: str, known: Mapping[str, Card]) -> list[FoundCard | None]:
    """The kinds of GPUs in SLURM's words (`gpu:v100:4(S:0-1)`), by config/cards.yaml; None for one that it has not."""
    families = {re.sub(r"-\d+GB$", "", name): card for name, card in known.items() if card.compute_capability}
    found: list[FoundCard | None] = []
    for kind in re.findall(r"gpu:([A-Za-z][\w.-]*)", resources):
        cards = [FoundCard(name, _capability(str(card.compute_capability))) for name, card in families.items()]
        found.append(next((card for card in cards if _plain(card.name) in _plain(kind)), None))
    return found


def check_nodes(cards: Sequence[FoundCard | None], slices: Collection[str]) -> None:
    """As `check_cards` for a choice of cards: no error if one can run the jobs, or is not known."""
    errors = []
    for card in cards:
        try:
            check_cards([card] if card else [], slices)
            return
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def check_cards(cards: list[FoundCard], slices: Collection[str]) -> None:
    """Raise UserError if torch has no code for a card, or a card lacks a precision that a job's slice (JSON) names."""
    for card in cards:
        if architectures := installed_architectures():
            require_code(architectures, *card)
        check_precisions(card, slices)


@cache
def installed_architectures() -> list[str]:
    """What the installed torch has code for, asked in a process of its own: importing torch takes seconds."""
    return subprocess.run([sys.executable, "-c", ARCHITECTURES], capture_output=True, text=True).stdout.split()


def check_precisions(card: FoundCard, slices: Collection[str]) -> None:
    """Raise UserError if the card lacks a precision that a job's slice (canonical JSON) names."""
    for key, precision in sorted({found for text in slices for found in _precisions(json.loads(text))}):
        require_precision(key, precision, *card)


def _precisions(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Dotted key and precision of all that a slice names; of language models without one, their checkpoint's."""
    yield from marked(PRECISION, Config, data)
    for name, values in data.get("llms", {}).items():
        entry = LLM(**values)
        if not entry.dtype:
            yield f"llms.{name}.dtype", precision_of(entry)


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _capability(text: str) -> Capability:
    major, _, minor = text.strip().partition(".")
    return int(major), int(minor or 0)
