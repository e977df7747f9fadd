"""CLIP weights of a local file in a network of open_clip: all of them, at their shapes, or none."""

from pathlib import Path
from typing import Any

from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from torch import Tensor

from v2l.errors import UserError
from v2l.io.state_dicts import misfits, read_state_dict

KEY = "encoder key `weights`"
PROGRAM_VALUES = ("input_resolution", "context_length", "vocab_size")  # what OpenAI's own files hold beside weights
TRANSFORMERS_PARTS = ("vision_model.", "text_model.")
REMEDY = "correct `weights` or `model` in `encoders`, or fetch the file again"


def load_weights(model: Any, name: str, path: Path) -> None:
    """Give `model`, open_clip's architecture `name`, the weights at `path`.

    Raises UserError that names both sizes for weights of another image size or context, which open_clip would stretch,
    and for every other weight that is missing, left over or of another shape.
    """
    state = read_state_dict(path, KEY)
    if any(key.startswith(TRANSFORMERS_PARTS) for key in state):
        raise UserError(
            f"{KEY}: {path} is laid out for the transformers library (vision_model.*, text_model.*)",
            f"a checkpoint of {name} as open_clip or OpenAI publish it",
            "name the same model's open_clip file (open_clip_model.safetensors, open_clip_pytorch_model.bin) or "
            "OpenAI's .pt",
        )
    state = convert_state_dict(model, {key: value for key, value in state.items() if key not in PROGRAM_VALUES})
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    for key in ("logit_scale", "logit_bias"):  # a number, or a row of one
        if key in state and key in expected and state[key].numel() == expected[key].numel() == 1:
            state[key] = state[key].reshape(expected[key].shape)
    _require_image_size(model, state, expected, name, path)
    _require_texts(state, expected, name, path)
    if problems := misfits(state, expected):
        raise UserError(
            f"{KEY}: {path} does not fit open_clip model {name} ({problems})", f"a checkpoint of {name}", REMEDY
        )
    model.load_state_dict(state)


def _require_image_size(
    model: Any, state: dict[str, Tensor], expected: dict[str, Tensor], name: str, path: Path
) -> None:
    key = "visual.positional_embedding"
    patch = getattr(model.visual, "patch_size", None)
    if not patch or not _differ_in_length(state, expected, key):
        return
    side = patch if isinstance(patch, int) else patch[0]
    found, wanted = (round((len(tensors[key]) - 1) ** 0.5) for tensors in (state, expected))
    raise UserError(
        f"{KEY}: {path} was trained on images of {found * side} px ({found} x {found} patches), {name} takes "
        f"{wanted * side} px ({wanted} x {wanted})",
        "weights and architecture of one image size; position embeddings are not stretched",
        f"name the architecture for {found * side} px in `model`, or the weights for {wanted * side} px",
    )


def _require_texts(state: dict[str, Tensor], expected: dict[str, Tensor], name: str, path: Path) -> None:
    for end, what in (("positional_embedding", "text contexts"), ("token_embedding.weight", "text vocabularies")):
        for key in (end, f"text.{end}"):
            if _differ_in_length(state, expected, key):
                raise UserError(
                    f"{KEY}: {path} has {what} of {len(state[key])} tokens, {name} of {len(expected[key])}",
                    "weights and architecture of one text model",
                    "name the architecture that the weights were trained as in `model`",
                )


def _differ_in_length(state: dict[str, Tensor], expected: dict[str, Tensor], key: str) -> bool:
    """Whether both hold rows of one width at `key`, but not as many."""
    if key not in state or key not in expected or state[key].ndim != 2:
        return False
    found, wanted = state[key].shape, expected[key].shape
    return found[1] == wanted[1] and found[0] != wanted[0]
