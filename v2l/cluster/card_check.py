"""Whether this machine's GPUs can run the jobs of a run: said before the first of them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import NamedTuple

from v2l.configuration.config import Config
from v2l.configuration.entry import PRECISION
from v2l.configuration.slices import marked
from v2l.gpu_support import Capability, require_code, require_precision

QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
ARCHITECTURES = "import torch; print(torch._C._cuda_getArchFlags() or '' if torch.version.cuda else '')"


class Card(NamedTuple):
    """A GPU: its name and compute capability."""

    name: str
    capability: Capability


def local_cards() -> list[Card]:
    """The kinds of GPUs of this machine; none where the driver's tool is absent or answers nothing."""
    if not shutil.which(QUERY[0]):
        return []
    lines = subprocess.run(QUERY, capture_output=True, text=True).stdout.splitlines()
    rows = [line.rpartition(",") for line in dict.fromkeys(lines) if line.rpartition(",")[2].strip()[:1].isdigit()]
    return [Card(name.strip(), _capability(capability)) for name, _, capability in rows]


def check_cards(cards: list[Card], slices: Iterable[str]) -> None:
    """Raise UserError if torch has no code for a card, or a card lacks a precision that a job's slice (JSON) names."""
    if not cards:
        return
    architectures = subprocess.run([sys.executable, "-c", ARCHITECTURES], capture_output=True, text=True).stdout.split()
    for card in cards:
        if architectures:
            require_code(architectures, *card)
        check_precisions(card, slices)


def check_precisions(card: Card, slices: Iterable[str]) -> None:
    """Raise UserError if the card lacks a precision that a job's slice (canonical JSON) names."""
    for key, precision in sorted({found for text in slices for found in marked(PRECISION, Config, json.loads(text))}):
        require_precision(key, precision, *card)


def _capability(text: str) -> Capability:
    major, _, minor = text.strip().partition(".")
    return int(major), int(minor or 0)
