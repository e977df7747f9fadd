"""How rows of several lengths may be laid out for a language model: asked of the model itself, on a few tokens."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import inspect
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from v2l.errors import UserError
from v2l.llm.greedy_decoding import GreedyDecoder
from v2l.llm.load_checks import KIND, OTHER, described, logit_difference
from v2l.llm.token_budget import input_device
from v2l.memory_errors import is_out_of_memory

# Largest difference of logits, in standard deviations of theirs, that another order of sums makes.
ROUNDING = {torch.float32: 0.02, torch.float16: 0.3, torch.bfloat16: 0.5}
SHARED, LONG, SHORT, STEPS = 4, 8, 6, 2  # tokens of a probe: of the prefix, of the two rows, and after them

_padded: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def can_pad(model: transformers.PreTrainedModel, longest: int) -> bool:
    """Whether rows of several lengths, up to `longest` tokens, can stand in one batch and share a prefix.

    They can where keys and values of single tokens are all that is kept of a sequence, and where two rows of a probe
    look as they would alone. State spaces, convolutions and indexed attention keep more, some models count places by
    themselves, and angles of kind longrope change for every row once one is longer than in training.
    """
    config = model.config.get_text_config(decoder=True)
    rope = getattr(config, "rope_parameters", None) or {}
    for part in (rope, *rope.values()):  # of the layers' kinds, if each has its own
        is_long = isinstance(part, dict) and part.get("rope_type") == "longrope"
        if is_long and longest > part["original_max_position_embeddings"]:
            return False
    kinds = {type(layer) for layer in transformers.DynamicCache(config=config).layers}
    named = {"past_key_values", "attention_mask"} <= set(inspect.signature(model.forward).parameters)
    if not named or not kinds <= {DynamicLayer, DynamicSlidingWindowLayer}:
        return False
    if model not in _padded:
        _padded[model] = _looks_alike(model)
    return _padded[model]


def require_steps(model: transformers.PreTrainedModel, key: str) -> None:
    """Raise UserError for a model that says other things token by token than of whole rows.

    Costs five passes of two rows of eight tokens and fewer; as many again for models that cannot be padded.
    """
    if can_pad(model, 0):
        return
    try:
        found = difference(model, padded=False)
    except Exception as error:  # whatever a model's own code raises
        if is_out_of_memory(error):
            raise
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{described(model, key)} cannot continue from a cache ({text})", KIND, OTHER) from None
    if found > ROUNDING[model.dtype]:
        raise UserError(
            f"{described(model, key)} answers otherwise with a cache than without "
            f"(logits differ by {found:.2g} of their spread)",
            KIND,
            OTHER,
        )


@torch.inference_mode()
def difference(model: transformers.PreTrainedModel, padded: bool) -> float:
    """How far logits of a batch, laid out as for generation, are from those of whole rows without a cache.

    In standard deviations of the latter. With `padded` the batch is of two lengths and shares a prefix, otherwise of
    one length in the model's own loop. Raises whatever the model's code raises.
    """
    size = model.get_input_embeddings().get_parameter("weight").shape[0]
    id_L = [(1 + 7 * place) % size for place in range(LONG + STEPS)]
    other_L = [*id_L[:SHARED], *reversed(id_L[SHARED:LONG])]
    rows, following = [id_L[:LONG], other_L[: SHORT if padded else LONG]], id_L[LONG:]
    decoder = _RecordingDecoder(model, id_L[: SHARED if padded else 0], padded, (), None)
    forced = [[{number} for number in following]] * len(rows)
    decoder.run(decoder.prepare([0, 1], rows, [STEPS] * len(rows), forced), lambda: None)
    differences = []
    for row, found_SV in zip(rows, torch.stack(decoder.logits, 1), strict=True):
        whole_1T = torch.tensor([[*row, *following[:-1]]], device=input_device(model))
        wanted_SV = model(input_ids=whole_1T, use_cache=False).logits[0, -STEPS:].float()
        differences.append(logit_difference(found_SV, wanted_SV))
    return max(differences)


def _looks_alike(model: transformers.PreTrainedModel) -> bool:
    try:
        return difference(model, padded=True) <= ROUNDING[model.dtype]
    except Exception as error:  # whatever a model's own code raises
        if is_out_of_memory(error):
            raise
        return False


class _RecordingDecoder(GreedyDecoder):
    """Keeps the logits of each step (B, V)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.logits: list[Tensor] = []

    def _choose(self, logits_BV: Tensor, choices: list[list[int] | None] | None) -> Tensor:
        self.logits.append(logits_BV.float())
        return super()._choose(logits_BV, choices)
