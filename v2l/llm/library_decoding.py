"""The greedy continuation of one batch by the model's own loop in transformers, for models that the engine's does not
fit: each knows which states it keeps, under which name, and when they are to be computed anew."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from collections.abc import Callable, Collection
from typing import Any

import torch
import transformers

Chooser = Callable[[torch.Tensor], torch.Tensor]  # logits (B, V) of a step -> ids (B)


class _Chosen(transformers.LogitsProcessor):
    """Leaves of all ids only the chosen one."""

    def __init__(self, choose: Chooser):
        self._choose = choose

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen_B = self._choose(scores)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen_B[:, None], 0.0)


def continued(
    model: transformers.PreTrainedModel,
    token_BW: torch.Tensor,
    count: int,
    stop_ids: Collection[int],
    choose: Chooser,
) -> None:
    """Continue each row of `token_BW` by at most `count` ids, as `choose` takes them, until all rows have a stop id.

    Settings of the checkpoint's generation_config.json have no influence.
    """
    settings = model.generation_config
    model.generation_config = transformers.GenerationConfig(
        max_new_tokens=count, do_sample=False, eos_token_id=sorted(stop_ids) or None, pad_token_id=0
    )
    try:
        chosen = transformers.LogitsProcessorList([_Chosen(choose)])
        loop: Any = model  # whose class leaves `generate` untyped
        loop.generate(token_BW, attention_mask=torch.ones_like(token_BW), logits_processor=chosen)
    finally:
        model.generation_config = settings
