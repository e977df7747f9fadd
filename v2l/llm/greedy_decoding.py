"""The greedy continuation of one batch of prompts, without waiting for the device between steps."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
import transformers

from v2l.io.overlap import sent
from v2l.llm.library_decoding import continued
from v2l.llm.load_checks import require_logits
from v2l.llm.prefix_cache import PrefixCache
from v2l.llm.token_budget import input_device

Choices = Sequence[Sequence[Collection[int]] | None]
NOT_FINITE = -1  # in place of an id that logits which are not numbers decided
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

    Without `padded` there is no prefix, all rows of a batch have the same length, and the model's own loop continues
    them.
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
        self._allowed_C = None if allowed_ids is None else sent(torch.tensor(sorted(allowed_ids)), self._device)

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
            sent(token_BW[:, self._shared :], self._device),
            sent(position_BW[:, self._shared :].clamp(min=0), self._device),
            sent((position_BW >= 0).long(), self._device) if any(padding) else None,
        )

    def run(self, batch: PromptBatch, meanwhile: Callable[[], None]) -> list[list[int]]:
        """Continuations of a batch. Rows that have ended leave it when half of it has.

        `meanwhile` is called once the device has begun. Without stop ids nothing is read from it before the last step
        is started.

        Raises UserError if logits that decide a token are not finite.
        """
        rows = list(range(len(batch.limits)))  # of the batch as it stands
        running = {row for row in rows if batch.limits[row] > 0}
        if not running:
            return [[] for _ in rows]
        if not self._padded:
            return self._by_library(batch, meanwhile)
        cache = self._prefix.slots(batch.padding)
        token_BT, position_BT, mask_BW = batch.token_BT, batch.position_BT, batch.mask_BW
        steps: list[tuple[list[int], torch.Tensor | list[int]]] = []
        while running:
            if len(running) <= len(rows) // 2:
                keep = [place for place, row in enumerate(rows) if row in running]
                rows = [rows[place] for place in keep]
                keep_K = sent(torch.tensor(keep), self._device)
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
            chosen_B = self._choose(logits_BV, _step(batch.choices, rows, number))
            if not steps:
                meanwhile()
            running = {row for row in running if batch.limits[row] > number + 1}
            kept_B = _kept(logits_BV, chosen_B)
            if self._stop_ids:
                tokens = kept_B.tolist()
                running -= {row for row, token in zip(rows, tokens, strict=True) if token in self._stop_ids}
                steps.append((rows, tokens))
            else:
                steps.append((rows, kept_B))
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
        require_logits(all(NOT_FINITE not in tokens for tokens in made), self._model)
        return made

    def _by_library(self, batch: PromptBatch, meanwhile: Callable[[], None]) -> list[list[int]]:
        meanwhile()
        rows = list(range(len(batch.limits)))
        steps: list[tuple[list[int], torch.Tensor | list[int]]] = []

        def choose(logits_BV: torch.Tensor) -> torch.Tensor:
            chosen_B = self._choose(logits_BV, _step(batch.choices, rows, len(steps)))
            steps.append((rows, _kept(logits_BV, chosen_B)))
            return chosen_B

        continued(self._model, batch.token_BT, max(batch.limits), self._stop_ids, choose)
        return self._made(steps, batch.limits)

    def _choose(self, logits_BV: torch.Tensor, choices: list[list[int] | None] | None) -> torch.Tensor:
        """The id of the largest logit that each row may choose, of equal ones the lowest (B)."""
        if choices is None:
            return self._choose_any(logits_BV)
        count = max(len(ids or ANY) for ids in choices)
        padded_BC = [[*(ids or ANY), *ANY * (count - len(ids or ANY))] for ids in choices]
        id_BC = sent(torch.tensor(padded_BC), self._device)
        logits_BC = logits_BV.gather(1, id_BC.clamp(min=0)).masked_fill(id_BC < 0, -torch.inf)
        chosen_B = id_BC.gather(1, logits_BC.argmax(-1, keepdim=True))[:, 0]
        return torch.where(id_BC[:, 0] < 0, self._choose_any(logits_BV), chosen_B)

    def _choose_any(self, logits_BV: torch.Tensor) -> torch.Tensor:
        if self._allowed_C is None:
            return logits_BV.argmax(-1)
        return self._allowed_C[logits_BV[:, self._allowed_C].argmax(-1)]


def _kept(logits_BV: torch.Tensor, chosen_B: torch.Tensor) -> torch.Tensor:
    """The chosen ids, NOT_FINITE in place of those whose logits are not: nothing more is read from the device (B)."""
    return chosen_B.where(logits_BV.gather(1, chosen_B[:, None])[:, 0].isfinite(), NOT_FINITE)


def _step(choices: Choices | None, rows: list[int], number: int) -> list[list[int] | None] | None:
    """For each of `rows` the sorted ids that may come as token `number`, or None: any."""
    if choices is None:
        return None
    steps = [choices[row] for row in rows]
    return [sorted(ids[number]) if ids is not None and number < len(ids) else None for ids in steps]
