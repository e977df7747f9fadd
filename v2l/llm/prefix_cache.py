"""The keys and values of what all prompts of a call begin with: computed once, laid out anew for every batch."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import torch
import transformers
from transformers.cache_utils import DynamicLayer

from v2l.io.overlap import sent


class PrefixCache:
    """The first P ids of every prompt of a call, which the model sees once."""

    def __init__(self, model: transformers.PreTrainedModel, prefix: list[int], device: torch.device):
        self._model, self._prefix, self._device = model, prefix, device
        self._states: list[tuple[torch.Tensor, ...]] = []  # keys and values of each layer (1, H, P, D), or nothing

    def slots(self, padding: list[int]) -> transformers.DynamicCache:
        """P slots for each of B rows: in row b `padding[b]` to be masked, then the prefix as far as there is room.

        So a row padded at its left has its tokens next to each other. All layers are as long as the sequence, those
        with a sliding window too: the mask hides what lies outside. Without padding nothing is copied.
        """
        cache = transformers.DynamicCache()
        if not self._prefix:
            return cache
        if not self._states:
            self._compute()
        place_BP = (torch.arange(len(self._prefix)) - torch.tensor(padding)[:, None]).clamp(min=0)
        devices = {state.device for states in self._states for state in states}
        places = {device: sent(place_BP, device) for device in devices} if any(padding) else {}
        for states in self._states:
            layer = DynamicLayer()
            if states:
                layer.lazy_initialization(*states)
                layer.keys, layer.values = (
                    state_1HPD[0][:, places[state_1HPD.device]].transpose(0, 1)
                    if places
                    else state_1HPD.expand(len(padding), -1, -1, -1)
                    for state_1HPD in states
                )
            cache.layers.append(layer)
        return cache

    def _compute(self) -> None:
        seen = transformers.DynamicCache()
        prefix_1P = sent(torch.tensor([self._prefix]), self._device)
        self._model(prefix_1P, past_key_values=seen, use_cache=True, logits_to_keep=1)
        pairs = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in seen.layers]
        self._states = [tuple(state for state in pair if state is not None) for pair in pairs]
