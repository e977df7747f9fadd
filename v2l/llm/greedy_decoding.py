"""The greedy continuation of one batch of prompts, without waiting for the device between steps."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
import transformers

from v2l.llm.prefix_cache import PrefixCache, to_device
from v2l.llm.token_budget import input_device

Choices = Sequence[Sequence[Collection[int]] | None]
ANY = [-1]  # in place of the ids that a row may choose


class PromptBatch(NamedTuple):
    """Prompts on the model's device, each as it would stand alone, behind padding that is masked.

    `token_BT` holds what is not read from the prefix's cache: all rows' last T tokens, of which the first may belong to
    the prefix or be padding. `mask_BW` covers the whole width; None without padding.
    """

    indices: list[int]  # of the prompts, for whoever asked
    limits: list[int]  # tokens that may follow
    choices: Choices | None
    padding: list[int]
    width: int  # W: tokens of each row, padding included
    token_BT: torch.Tensor
    position_BT: torch.Tensor
    mask_BW: torch.Tensor | None

    @property
    def length(self) -> int:
        """Tokens of each row at the end."""
        return self.width + max(self.limits)


class GreedyDecoder:
    """What the batches of one call have in common: the model, the shared prefix and which ids may be chosen.

    Without `padded` there is no prefix, all rows of a batch have the same length and stay in it until its end.
    """

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        prefix: list[int],
        padded: bool,
        stop_ids: Collection[int],
        allowed_ids: Collection[int] | None,
    ):
        self._model, self._shared, self._padded, self._stop_ids = model, len(prefix), padded, stop_ids
        self._device = input_device(model)
        self._prefix = PrefixCache(model, prefix, self._device)
        self._allowed_C = None if allowed_ids is None else to_device(torch.tensor(sorted(allowed_ids)), self._device)

    def prepare(
        self, indices: list[int], prompts: list[list[int]], limits: list[int], choices: Choices | None
    ) -> PromptBatch:
        """The batch of `prompts`; the device is not waited for."""
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        token_BW = torch.tensor([[0] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)])
        position_BW = torch.arange(width) - torch.tensor(padding)[:, None]
        return PromptBatch(
            indices,
            limits,
            choices,
            padding,
            width,
            to_device(token_BW[:, self._shared :], self._device),
            to_device(position_BW[:, self._shared :].clamp(min=0), self._device),
            to_device((position_BW >= 0).long(), self._device) if any(padding) else None,
        )

    def run(self, batch: PromptBatch, meanwhile: Callable[[], None]) -> list[list[int]]:
        """Continuations of a batch. Rows that have ended leave it when half of it has.

        `meanwhile` is called once the device has begun. Without stop ids nothing is read from it before the last step
        is started.
        """
        rows = list(range(len(batch.limits)))  # of the batch as it stands
        running = {row for row in rows if batch.limits[row] > 0}
        if not running:
            return [[] for _ in rows]
        token_BT, position_BT, mask_BW, cache = batch.token_BT, batch.position_BT, batch.mask_BW, self._cache(batch)
        steps: list[tuple[list[int], torch.Tensor | list[int]]] = []
        while running:
            if self._padded and len(running) <= len(rows) // 2:
                keep = [place for place, row in enumerate(rows) if row in running]
                rows = [rows[place] for place in keep]
                keep_K = to_device(torch.tensor(keep), self._device)
                cache.batch_select_indices(keep_K)
                token_BT, position_BT = token_BT[keep_K], position_BT[keep_K]
                mask_BW = None if mask_BW is None else mask_BW[keep_K]
            logits_BV = self._model(
                input_ids=token_BT,
                attention_mask=mask_BW,
                position_ids=position_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            number = len(steps)
            chosen_B = self._choose(
                logits_BV, [_step(batch.choices[row], number) for row in rows] if batch.choices else None
            )
            if not steps:
                meanwhile()
            running = {row for row in running if batch.limits[row] > number + 1}
            if self._stop_ids:
                tokens = chosen_B.tolist()
                running -= {row for row, token in zip(rows, tokens, strict=True) if token in self._stop_ids}
                steps.append((rows, tokens))
            else:
                steps.append((rows, chosen_B))
            token_BT, position_BT = chosen_B[:, None], position_BT[:, -1:] + 1
            mask_BW = None if mask_BW is None else torch.nn.functional.pad(mask_BW, (0, 1), value=1)
        return self._made(steps, batch.limits)

    def _made(self, steps: list[tuple[list[int], torch.Tensor | list[int]]], limits: list[int]) -> list[list[int]]:
        made: list[list[int]] = [[] for _ in limits]
        for rows, chosen in steps:
            tokens = chosen if isinstance(chosen, list) else chosen.tolist()
            for row, token in zip(rows, tokens, strict=True):
                if len(made[row]) < limits[row] and not (made[row] and made[row][-1] in self._stop_ids):
                    made[row].append(token)
        return made

    def _cache(self, batch: PromptBatch) -> transformers.DynamicCache:
        if self._padded:
            return self._prefix.slots(batch.padding)
        return transformers.DynamicCache(config=self._model.config)

    def _choose(self, logits_BV: torch.Tensor, choices: list[list[int] | None] | None) -> torch.Tensor:
        """The id of the largest logit that each row may choose, of equal ones the lowest (B)."""
        if choices is None:
            return self._choose_any(logits_BV)
        count = max(len(ids or ANY) for ids in choices)
        padded_BC = [[*(ids or ANY), *ANY * (count - len(ids or ANY))] for ids in choices]
        id_BC = to_device(torch.tensor(padded_BC), self._device)
        logits_BC = logits_BV.gather(1, id_BC.clamp(min=0)).masked_fill(id_BC < 0, -torch.inf)
        chosen_B = id_BC.gather(1, logits_BC.argmax(-1, keepdim=True))[:, 0]
        return torch.where(id_BC[:, 0] < 0, self._choose_any(logits_BV), chosen_B)

    def _choose_any(self, logits_BV: torch.Tensor) -> torch.Tensor:
        if self._allowed_C is None:
            return logits_BV.argmax(-1)
        return self._allowed_C[logits_BV[:, self._allowed_C].argmax(-1)]


def _step(steps: Sequence[Collection[int]] | None, number: int) -> list[int] | None:
    """Sorted ids that may come as token `number`; None: any."""
    return sorted(steps[number]) if steps is not None and number < len(steps) else None
