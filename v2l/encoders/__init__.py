"""Image-text encoders: texts and images as unit vectors of one space."""

import torch

from v2l.configuration.model_entries import ConseEncoder, OpenClipEncoder
from v2l.encoders.image_text_encoder import ImageTextEncoder

__all__ = ["ImageTextEncoder", "load_encoder"]


def load_encoder(entry: OpenClipEncoder | ConseEncoder, device: torch.device) -> ImageTextEncoder:
    """The encoder of a registry entry, frozen, on `device`. Raises UserError on missing or unfitting files."""
    if entry.kind == "open_clip":
        from v2l.encoders.open_clip import OpenClip

        return OpenClip(entry, device)
    from v2l.encoders.conse import Conse

    return Conse(entry, device)
