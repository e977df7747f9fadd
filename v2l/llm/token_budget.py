"""How many tokens of prompts fit beside a language model's weights."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import logging
import os

import torch
import transformers

# More give no more prompts a second: a CPU is busy with few, a GPU with some ten thousand.
MOST_TOKENS = {"cpu": 4096, "cuda": 32768}
USED = 0.8  # of the free memory; the rest is for what the allocator cannot join
ACTIVATIONS = 8  # vectors of the widest layer's width that a token needs while it passes through the model
LOGITS = 3  # copies of a prompt's logits


class TokenBudget:
    """The most tokens of a batch, of all its rows with padding and continuations: `tokens`, a power of two at first.

    A row also takes `overhead` tokens for its logits. Measured once, when the weights are there; `halve` makes it
    smaller for good.
    """

    def __init__(self, model: transformers.PreTrainedModel):
        self._device = input_device(model)
        self.tokens = MOST_TOKENS.get(self._device.type, MOST_TOKENS["cpu"])
        cached, passing, logits = bytes_needed(model)
        self.overhead = round(logits / (cached + passing))
        if self._device.type == "cuda":
            for device, share in _shares(model, self._device).items():
                fits = int(USED * memory_left(device) / (cached * share + passing))
                self.tokens = min(self.tokens, 1 << max(fits.bit_length() - 1, 0))

    def halve(self, rows: int, length: int) -> None:
        """Say that `rows` rows of `length` tokens did not fit, and allow half as many tokens from now on."""
        self.tokens = min(self.tokens, rows * (length + self.overhead) // 2)
        logging.warning(
            "out of memory: a batch of %d prompts of up to %d tokens does not fit (free: %s); it is halved, and from "
            "now on a batch has at most %d tokens",
            rows,
            length,
            self.free(),
            self.tokens,
        )

    def free(self) -> str:
        """The memory that is free on the device of the prompts, in words."""
        return f"{memory_left(self._device) / 1e6:,.0f} MB on {self._device}"


@torch.inference_mode()
def bytes_needed(model: transformers.PreTrainedModel) -> tuple[int, int, int]:
    """Bytes of a token's keys and values in all layers, of a token passing through, and of a prompt's logits.

    The first are those that the model keeps of one token, in a cache of its own making; states that do not grow with
    the tokens do not count. The others are estimates from its layers' widths.
    """
    seen = torch.zeros(1, 1, dtype=torch.int64, device=input_device(model))
    cache = model(input_ids=seen, use_cache=True).get("past_key_values")
    layers = getattr(cache, "layers", [])
    states = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    head = model.get_output_embeddings() or model.get_input_embeddings()
    tables = [head, *(module for module in model.modules() if isinstance(module, torch.nn.Embedding))]
    looked_up = {id(table.get_parameter("weight")) for table in tables}
    widths = [max(weight.shape) for weight in model.parameters() if id(weight) not in looked_up]
    size = model.dtype.itemsize
    return (
        sum(state.numel() * state.element_size() for state in states if state is not None),
        ACTIVATIONS * max(widths) * size,
        LOGITS * head.get_parameter("weight").shape[0] * size,
    )


def memory_left(device: torch.device) -> int:
    """Bytes that can be allocated on `device`; those that PyTorch keeps for itself count."""
    if device.type != "cuda":
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def input_device(model: transformers.PreTrainedModel) -> torch.device:
    """Where token ids go: the device of the embedding, or the one it is brought to when it is needed (device_map)."""
    embedding = model.get_input_embeddings()
    hook = getattr(embedding, "_hf_hook", None)
    place = getattr(hook, "execution_device", None)
    return embedding.get_parameter("weight").device if place is None else torch.device(place)


def _shares(model: transformers.PreTrainedModel, first: torch.device) -> dict[torch.device, float]:
    """The share of the layers, by their weights, of each GPU; `first` also computes what lies elsewhere."""
    held: dict[torch.device, int] = {first: 0}
    for weight in model.parameters():
        place = weight.device if weight.device.type == "cuda" else first
        held[place] = held.get(place, 0) + weight.numel() * weight.element_size()
    return {device: size / sum(held.values()) for device, size in held.items()}
