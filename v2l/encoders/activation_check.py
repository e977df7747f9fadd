"""Whether CLIP weights fit the activation that the entry names: weights do not tell, but pictures and texts do.

OpenAI's weights were trained with QuickGELU, most others with GELU, at the same shapes. Under the other one features
of a picture and of its description agree less.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from open_clip.transformer import QuickGELU
from torch import nn
from torch.nn.functional import cross_entropy

from v2l.configuration.model_entries import OpenClipEncoder
from v2l.encoders.image_text_encoder import ImageTextEncoder

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 160, 40),
    "blue": (20, 40, 220),
    "yellow": (250, 230, 20),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "pink": (255, 150, 190),
    "orange": (250, 140, 10),
}
SENTENCE = "a plain {} picture"
UNTRAINED_SCALE = 15.0  # CLIP begins at 1 / 0.07 = 14.3 and is trained to 100: what stands lower has learned nothing
CLEARLY = 0.25  # nats by which one activation must name the colours better than the other


def warn_of_activation(encoder: ImageTextEncoder, model: Any, entry: OpenClipEncoder) -> None:
    """Log a warning where trained weights name colours no better than chance, or better with the other activation.

    Measured in nats: cross entropy of each of eight plain pictures against eight sentences at the model's own
    temperature, ln 8 = 2.08 at chance. Untrained weights are not judged. `encoder` computes the features with `model`.
    """
    scale = float(model.logit_scale.exp())
    if scale < UNTRAINED_SCALE:
        return
    asked = colour_loss(encoder, scale)
    with other_activation(model) as swapped:
        other = colour_loss(encoder, scale) if swapped else asked
    name, chance = entry.weights, float(np.log(len(COLOURS)))
    if asked - other > CLEARLY and other < chance:
        logging.warning(
            "%s: with `quick_gelu: %s` features of plain pictures and of their descriptions agree less (%.2f nats) "
            "than with `quick_gelu: %s` (%.2f, chance %.2f): these weights were probably trained with the other; see "
            "`quick_gelu` in `encoders`",
            *(name, str(entry.quick_gelu).lower(), asked, str(not entry.quick_gelu).lower(), other, chance),
        )
    elif asked > chance:
        logging.warning(
            "%s: features of plain pictures and of their descriptions hardly agree (%.2f nats, chance %.2f): check "
            "that `weights`, `model` and `quick_gelu` in `encoders` belong together",
            *(name, asked, chance),
        )


def colour_loss(encoder: ImageTextEncoder, scale: float) -> float:
    """Mean cross entropy, in nats, of plain pictures against the sentences that name their colours."""
    side = encoder.image_size
    pixels_NHWC = np.stack([np.full((side, side, 3), colour, np.uint8) for colour in COLOURS.values()])
    image_ND = encoder.encode_squares(pixels_NHWC)
    text_ND = encoder.encode_text([SENTENCE.format(colour) for colour in COLOURS])
    return cross_entropy(scale * image_ND @ text_ND.T, torch.arange(len(COLOURS), device=image_ND.device)).item()


@contextmanager
def other_activation(model: nn.Module) -> Iterator[int]:
    """`model` with GELU for QuickGELU and the other way round, for a while; gives the number of layers changed."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if name == "gelu" and type(child) in (nn.GELU, QuickGELU)  # of the text and image transformers, not of timm
    ]
    for parent, name, child in found:
        setattr(parent, name, nn.GELU() if isinstance(child, QuickGELU) else QuickGELU())
    try:
        yield len(found)
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)
