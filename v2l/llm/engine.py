"""Batched greedy generation: the one place where prompts meet a language model."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import copy
import hashlib
import os
from collections.abc import Collection, Sequence

import torch
import transformers

from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.llm.batches import plan_batches
from v2l.llm.journal import Journal

Choices = Sequence[Sequence[Collection[int]] | None]


@torch.inference_mode()
def generate(
    model: transformers.PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int | Sequence[int],
    batch_size: int,
    stop_ids: Collection[int] = (),
    allowed_ids: Collection[int] | None = None,
    choices: Choices | None = None,
    names: Sequence[str] | None = None,
    remedy: str = "shorten the prompt",
    journal: Journal | None = None,
) -> list[list[int]]:
    """Greedy continuations of `prompts` (lists of token ids), in their order.

    A continuation ends after `max_new_tokens` (one number, or one for each prompt), or with the first id in `stop_ids`,
    which it includes. With `allowed_ids` no other id is ever chosen; with `choices`, prompt p's token t is one of
    `choices[p][t]`, or any if `choices[p]` is None. Equal logits go to the lowest id. Prompts are batched by length,
    always in the same batches for the same input; the ids that all of them begin with are computed once. Padding is
    masked and does not change positions, so in float32 the batch size has no influence. Batches that `journal` knows
    are not computed.

    Raises UserError if a prompt and its continuation exceed the model's context, naming it by `names` and telling to do
    `remedy`; nothing is ever truncated.
    """
    if not prompts:
        return []
    lists = [list(prompt) for prompt in prompts]
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    _require_context(model, prompts, limits, names, remedy)
    shared = min(len(os.path.commonprefix(lists)), min(map(len, lists)) - 1) if len(lists) > 1 else 0
    batch = _Batches(model, lists[0][:shared], set(stop_ids), allowed_ids)
    results: list[list[int]] = [[] for _ in prompts]
    for indices in plan_batches([len(prompt) - shared for prompt in prompts], batch_size):
        rows = [lists[index] for index in indices]
        row_limits = [limits[index] for index in indices]
        row_choices = [choices[index] for index in indices] if choices is not None else None
        key = batch.key(rows, row_limits, row_choices)
        made = journal.known(key) if journal else None
        if made is None:
            made = batch.run(rows, row_limits, row_choices)
            if journal:
                journal.add(key, made)
        for index, row in zip(indices, made, strict=True):
            results[index] = row
    return results


class _Batches:
    """What the batches of one call have in common: the model, the shared prefix and which ids may be chosen."""

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        prefix: list[int],
        stop_ids: set[int],
        allowed_ids: Collection[int] | None,
    ):
        self.model, self.prefix, self.stop_ids = model, prefix, stop_ids
        self.device = input_device(model)
        self.allowed = None if allowed_ids is None else torch.tensor(sorted(allowed_ids), device=self.device)
        self._cache: transformers.DynamicCache | None = None
        settings = [len(prefix), sorted(stop_ids), None if allowed_ids is None else sorted(allowed_ids)]
        self._settings = hashlib.sha256(canonical_json(settings).encode())

    def key(self, prompts: list[list[int]], limits: list[int], choices: Choices | None) -> str:
        """A hash of everything that the answers of a batch depend on, except for the model."""
        digest = self._settings.copy()
        chosen = choices and [steps and [sorted(ids) for ids in steps] for steps in choices]
        digest.update(canonical_json([prompts, limits, chosen]).encode())
        return digest.hexdigest()[:32]

    def run(self, prompts: list[list[int]], limits: list[int], choices: Choices | None) -> list[list[int]]:
        """Continuations of a batch. Rows that have ended leave it when half of it has."""
        made: list[list[int]] = [[] for _ in prompts]
        if max(limits) < 1:
            return made
        suffixes = [prompt[len(self.prefix) :] for prompt in prompts]
        width = max(map(len, suffixes))
        padding = [width - len(suffix) for suffix in suffixes]
        token_BT = torch.tensor([[0] * pad + suffix for pad, suffix in zip(padding, suffixes, strict=True)])
        pad_B1 = torch.tensor(padding)[:, None]
        real_BT = torch.arange(width) >= pad_B1
        mask_BT = torch.cat([torch.ones(len(suffixes), len(self.prefix), dtype=torch.bool), real_BT], dim=1).long()
        position_BT = (len(self.prefix) + torch.arange(width) - pad_B1).clamp(min=0)
        cache = self._prefix_cache(len(suffixes))
        rows = list(range(len(suffixes)))  # of the batch as it stands
        running = {row for row in rows if limits[row] > 0}
        while running:
            if len(running) <= len(rows) // 2:
                keep = [place for place, row in enumerate(rows) if row in running]
                cache.batch_select_indices(torch.tensor(keep, device=self.device))
                rows = [rows[place] for place in keep]
                token_BT, mask_BT, position_BT = token_BT[keep], mask_BT[keep], position_BT[keep]
            logits_BV = self.model(
                input_ids=token_BT.to(self.device),
                attention_mask=mask_BT.to(self.device),
                position_ids=position_BT.to(self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            steps = None if choices is None else [_step(choices[row], len(made[row])) for row in rows]
            chosen = self._choose(logits_BV, steps)
            for row, token in zip(rows, chosen, strict=True):
                if row in running:
                    made[row].append(token)
                    if token in self.stop_ids or len(made[row]) == limits[row]:
                        running.remove(row)
            token_BT = torch.tensor(chosen)[:, None]
            mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)
            position_BT = position_BT[:, -1:] + 1
        return made

    def _choose(self, logits_BV: torch.Tensor, choices: list[list[int] | None] | None) -> list[int]:
        if choices is not None:
            picks = [
                logits_V if ids is None else logits_V[ids] for logits_V, ids in zip(logits_BV, choices, strict=True)
            ]
            places = [int(pick_C.argmax()) for pick_C in picks]
            return [place if ids is None else ids[place] for ids, place in zip(choices, places, strict=True)]
        chosen_B = logits_BV.argmax(-1) if self.allowed is None else self.allowed[logits_BV[:, self.allowed].argmax(-1)]
        return chosen_B.tolist()

    def _prefix_cache(self, rows: int) -> transformers.DynamicCache:
        """The keys and values of the shared prefix for each of `rows` prompts; the model sees the prefix once."""
        if not self.prefix:
            return transformers.DynamicCache(config=self.model.config)
        if self._cache is None:
            self._cache = transformers.DynamicCache(config=self.model.config)
            prefix_1S = torch.tensor([self.prefix], device=self.device)
            self.model(prefix_1S, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(rows)
        return cache


def input_device(model: transformers.PreTrainedModel) -> torch.device:
    """Where token ids go: the device of the embedding, or the one it is brought to when it is needed (device_map)."""
    embedding = model.get_input_embeddings()
    hook = getattr(embedding, "_hf_hook", None)
    place = getattr(hook, "execution_device", None)
    return embedding.get_parameter("weight").device if place is None else torch.device(place)


def _step(steps: Sequence[Collection[int]] | None, number: int) -> list[int] | None:
    """Sorted ids that may come as token `number`; None: any."""
    return sorted(steps[number]) if steps is not None and number < len(steps) else None


def _require_context(
    model: transformers.PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    limits: list[int],
    names: Sequence[str] | None,
    remedy: str,
) -> None:
    context = getattr(model.config, "max_position_embeddings", None)
    for index, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
        name = names[index] if names else f"prompt {index}"
        if not len(prompt):
            raise UserError(f"{name} is empty", "a prompt of at least one token", remedy)
        if context is not None and len(prompt) + limit > context:
            raise UserError(
                f"{name} has {len(prompt)} tokens and {limit} more may follow",
                f"at most {context} tokens, the context of {model.config.name_or_path or 'the language model'}",
                remedy,
            )
