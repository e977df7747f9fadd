"""From a registry entry to an encoder; only the library that it needs is imported."""

import torch

from v2l.configuration.model_entries import Encoder
from v2l.configuration.registry import implementation_of
from v2l.encoders.image_text_encoder import ImageTextEncoder


def load_encoder(entry: Encoder, device: torch.device) -> ImageTextEncoder:
    """The encoder of a registry entry, frozen, on `device`. Raises UserError on missing or unfitting files."""
    return implementation_of(entry)(entry, device)
