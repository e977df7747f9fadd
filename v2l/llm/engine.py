"""Batched greedy generation: the one place where prompts meet a language model."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import hashlib
import os
from collections import deque
from collections.abc import Callable, Collection, Sequence

import torch
import transformers

from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.llm.batches import plan_batches
from v2l.llm.greedy_decoding import Choices, GreedyDecoder, PromptBatch
from v2l.llm.journal import Journal
from v2l.llm.model_facts import context_of
from v2l.llm.row_layout import can_pad
from v2l.llm.token_budget import TokenBudget
from v2l.memory_errors import is_out_of_memory


@torch.inference_mode()
def generate(
    model: transformers.PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int | Sequence[int],
    batch_size: int | None = None,
    stop_ids: Collection[int] = (),
    allowed_ids: Collection[int] | None = None,
    choices: Choices | None = None,
    names: Sequence[str] | None = None,
    remedy: str = "shorten the prompt",
    journal: Journal | None = None,
    budget: TokenBudget | None = None,
) -> list[list[int]]:
    """Greedy continuations of `prompts` (lists of token ids), in their order.

    A continuation ends after `max_new_tokens` (one number, or one for each prompt), or with the first id in `stop_ids`,
    which it includes. With `allowed_ids` no other id is ever chosen; with `choices`, prompt p's token t is one of
    `choices[p][t]`, or any if `choices[p]` is None. Equal logits go to the lowest id. Prompts are batched by length, as
    many as `budget` (default: one for this call) and `batch_size` allow; a batch that does not fit in memory is halved.
    The ids that all prompts begin with are computed once. To the model every row looks as it would alone, so in float32
    the batches have no influence. Prompts that `journal` knows are not computed.

    Raises UserError if a prompt and its continuation exceed the model's context, or the memory, naming it by `names`
    and telling to do `remedy`; nothing is ever truncated.
    """
    if not prompts:
        return []
    lists = [list(prompt) for prompt in prompts]
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    named = list(names) if names else [f"prompt {index}" for index in range(len(prompts))]
    _require_context(model, lists, limits, named, remedy)
    budget = budget or TokenBudget(model)
    padded = can_pad(model, max(map(len, lists)) + max(limits))
    shared = min(len(os.path.commonprefix(lists)), min(map(len, lists)) - 1) if padded and len(lists) > 1 else 0
    decoder = GreedyDecoder(model, lists[0][:shared], padded, set(stop_ids), allowed_ids)
    settings = [shared, sorted(stop_ids), None if allowed_ids is None else sorted(allowed_ids)]
    held = shared + max(limits) + budget.overhead
    plan = plan_batches([len(prompt) - shared for prompt in lists], batch_size, budget.tokens, held, padded)
    work = _Work(decoder, lists, limits, choices, plan, settings, budget, journal)
    while batch := work.take():
        made = _computed(decoder, batch, work.prefetch)
        if made is not None:
            work.keep(batch, made)
        elif len(batch.indices) > 1:
            work.halve(batch)
        else:
            raise UserError(
                f"{named[batch.indices[0]]}, {batch.length} tokens with its answer, does not fit in memory, of which "
                f"{budget.free()} is free",
                "memory for one prompt",
                f"take a smaller language model, spread it over GPUs (resource `device_map`), or {remedy}",
            )
    return work.results


class _Work:
    """The prompts of one call: which are answered, and which batches are still to be computed."""

    def __init__(
        self,
        decoder: GreedyDecoder,
        prompts: list[list[int]],
        limits: list[int],
        choices: Choices | None,
        plan: list[list[int]],
        settings: list,
        budget: TokenBudget,
        journal: Journal | None,
    ):
        self._decoder, self._prompts, self._limits, self._choices = decoder, prompts, limits, choices
        self._waiting = deque(plan)
        self._ready: PromptBatch | None = None
        self._settings = hashlib.sha256(canonical_json(settings).encode())
        self._budget, self._journal = budget, journal
        self.results: list[list[int]] = [[] for _ in prompts]

    def take(self) -> PromptBatch | None:
        """The next batch of prompts that are not known, no larger than the budget is by now."""
        batch, self._ready = self._ready or self._prepared(), None
        return batch

    def prefetch(self) -> None:
        """Prepare the next batch, while the device computes another."""
        self._ready = self._prepared()

    def keep(self, batch: PromptBatch, made: list[list[int]]) -> None:
        """Take `made` as what continues the prompts of `batch`."""
        for index, tokens in zip(batch.indices, made, strict=True):
            self.results[index] = tokens
        if self._journal:
            self._journal.add([self._key(index) for index in batch.indices], made)

    def halve(self, batch: PromptBatch) -> None:
        """Put `batch`, which did not fit in memory, back, in parts of half its size."""
        if self._ready:
            self._waiting.appendleft(self._ready.indices)
        self._ready = None
        self._budget.halve(len(batch.indices), batch.length)
        self._waiting.appendleft(batch.indices)

    def _prepared(self) -> PromptBatch | None:
        while self._waiting:
            indices = [index for index in self._waiting.popleft() if not self._is_known(index)]
            if not indices:
                continue
            prompts = [self._prompts[index] for index in indices]
            limits = [self._limits[index] for index in indices]
            row = max(map(len, prompts)) + max(limits) + self._budget.overhead
            fits = max(1, self._budget.tokens // row)
            if len(indices) > fits:
                self._waiting.appendleft(indices[fits:])
            chosen = None if self._choices is None else [self._choices[index] for index in indices[:fits]]
            return self._decoder.prepare(indices[:fits], prompts[:fits], limits[:fits], chosen)
        return None

    def _is_known(self, index: int) -> bool:
        known = self._journal.known(self._key(index)) if self._journal else None
        if known is not None:
            self.results[index] = known
        return known is not None

    def _key(self, index: int) -> str:
        """A hash of everything that the answer to a prompt depends on, except for the model."""
        digest, choices = self._settings.copy(), self._choices and self._choices[index]
        chosen = choices and [sorted(ids) for ids in choices]
        digest.update(canonical_json([self._prompts[index], self._limits[index], chosen]).encode())
        return digest.hexdigest()[:32]


def _computed(decoder: GreedyDecoder, batch: PromptBatch, meanwhile: Callable[[], None]) -> list[list[int]] | None:
    """What continues the prompts of `batch`; None if there is not the memory, all of which is then given back."""
    try:
        return decoder.run(batch, meanwhile)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    return None


def _require_context(
    model: transformers.PreTrainedModel,
    prompts: list[list[int]],
    limits: list[int],
    names: list[str],
    remedy: str,
) -> None:
    context = context_of(model.config.to_dict())
    for name, prompt, limit in zip(names, prompts, limits, strict=True):
        if not prompt:
            raise UserError(f"{name} is empty", "a prompt of at least one token", remedy)
        if context is not None and len(prompt) + limit > context:
            raise UserError(
                f"{name} has {len(prompt)} tokens and {limit} more may follow",
                f"at most {context} tokens, the context of {model.config.name_or_path or 'the language model'}",
                remedy,
            )
