"""How rows of several lengths may be laid out for a language model: asked of the model itself, on a few tokens."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import inspect
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from v2l.llm.greedy_decoding import GreedyDecoder
from v2l.llm.token_budget import input_device
from v2l.memory_errors import is_out_of_memory

# Largest difference of logits, in standard deviations of theirs, that another order of sums makes.
ROUNDING = {torch.float32: 0.02, torch.float16: 0.3, torch.bfloat16: 0.5}
SHARED, LONG, SHORT, STEPS = 2, 6, 4, 2  # tokens of the prefix and of the rows of a probe, and what follows them

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
        _padded[model] = difference(model, padded=True) <= ROUNDING[model.dtype]
    return _padded[model]


@torch.inference_mode()
def difference(model: transformers.PreTrainedModel, padded: bool) -> float:
    """How far logits of a batch, laid out as for generation, are from those of whole rows without a cache.

    In standard deviations of the latter; infinite where they are not numbers or the model cannot be run so. With
    `padded` the batch is of two lengths and shares a prefix, otherwise of one length in the model's own loop.
    """
    size = model.get_input_embeddings().get_parameter("weight").shape[0]
    id_L = [(1 + 7 * place) % size for place in range(LONG + STEPS)]
    other_L = [*id_L[:SHARED], *reversed(id_L[SHARED:LONG])]
    rows, following = [id_L[:LONG], other_L[: SHORT if padded else LONG]], id_L[LONG:]
    try:
        decoder = _RecordingDecoder(model, rows[0][: SHARED if padded else 0], padded, (), None)
        forced = [[{number} for number in following]] * len(rows)
        decoder.run(decoder.prepare([0, 1], rows, [STEPS] * len(rows), forced), lambda: None)
        found_BSV = torch.stack(decoder.logits, 1)
        for row, found_SV in zip(rows, found_BSV, strict=True):
            whole_1T = torch.tensor([[*row, *following[:-1]]], device=input_device(model))
            wanted_SV = model(input_ids=whole_1T, use_cache=False).logits[0, -STEPS:].float()
            decoder.differences.append(_spread(found_SV, wanted_SV))
    except Exception as error:  # whatever a model's own code raises
        if is_out_of_memory(error):
            raise
        return torch.inf
    return max(decoder.differences)


class _RecordingDecoder(GreedyDecoder):
    """Keeps the logits of each step (B, V)."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.logits: list[Tensor] = []
        self.differences: list[float] = []

    def _choose(self, logits_BV: Tensor, choices: list[list[int] | None] | None) -> Tensor:
        self.logits.append(logits_BV.float())
        return super()._choose(logits_BV, choices)


def _spread(found_SV: Tensor, wanted_SV: Tensor) -> float:
    both = found_SV.isfinite() & wanted_SV.isfinite()
    if not bool(both.any()):
        return torch.inf
    found = float((found_SV - wanted_SV)[both].abs().max() / wanted_SV[both].std().clamp(min=1e-6))
    return found if found == found else torch.inf
