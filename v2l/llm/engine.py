"""Batched greedy generation: the one place where prompts meet a language model."""

import copy
import os
from collections.abc import Collection, Sequence

import torch
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel

from v2l.errors import UserError


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int | Sequence[int],
    batch_size: int,
    stop_ids: Collection[int] = (),
    allowed_ids: Collection[int] | None = None,
    names: Sequence[str] | None = None,
    remedy: str = "shorten the prompt",
    progress: tqdm | None = None,
) -> list[list[int]]:
    """Greedy continuations of `prompts` (lists of token ids), in their order.

    A continuation ends after `max_new_tokens` (one number, or one for each prompt), or with the first id in `stop_ids`,
    which it includes. With `allowed_ids` no other id is ever chosen; equal logits go to the lowest id. Prompts are
    batched by length, longest first, always in the same batches for the same input; the ids that all of them begin with
    are computed once. Padding is masked and does not change positions, so in float32 the batch size has no influence.

    Raises UserError if a prompt and its continuation exceed the model's context, naming it by `names` and telling to do
    `remedy`; nothing is ever truncated.
    """
    if not prompts:
        return []
    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    _require_context(model, prompts, limits, names, remedy)
    allowed = None if allowed_ids is None else torch.tensor(sorted(allowed_ids), device=model.device)
    shared = min(len(os.path.commonprefix([list(prompt) for prompt in prompts])), min(map(len, prompts)) - 1)
    prefix = DynamicCache(config=model.config)
    if shared and len(prompts) > 1:
        prefix_1S = torch.tensor([list(prompts[0][:shared])], device=model.device)
        model(prefix_1S, past_key_values=prefix, use_cache=True, logits_to_keep=1)
    else:
        shared = 0
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    results: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = _generate_batch(
            model,
            [list(prompts[index][shared:]) for index in batch],
            [limits[index] for index in batch],
            (copy.deepcopy(prefix), shared),
            set(stop_ids),
            allowed,
        )
        for index, row in zip(batch, rows, strict=True):
            results[index] = row
        if progress is not None:
            progress.update(len(batch))
    return results


def _generate_batch(
    model: PreTrainedModel,
    suffixes: list[list[int]],
    limits: list[int],
    prefix: tuple[DynamicCache, int],
    stop_ids: set[int],
    allowed: torch.Tensor | None,
) -> list[list[int]]:
    """Continuations of a batch; `prefix` is the cache of the ids before every suffix and their number."""
    (cache, shared), width = prefix, max(map(len, suffixes))
    if shared:
        cache.batch_repeat_interleave(len(suffixes))
    padding = [width - len(suffix) for suffix in suffixes]
    token_BT = torch.tensor([[0] * pad + suffix for pad, suffix in zip(padding, suffixes, strict=True)])
    pad_B1 = torch.tensor(padding)[:, None]
    real_BT = torch.arange(width) >= pad_B1
    mask_BT = torch.cat([torch.ones(len(suffixes), shared, dtype=torch.bool), real_BT], dim=1).long()
    position_BT = (shared + torch.arange(width) - pad_B1).clamp(min=0)
    rows: list[list[int]] = [[] for _ in suffixes]
    running = [limit > 0 for limit in limits]
    while any(running):
        logits_BV = model(
            input_ids=token_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            position_ids=position_BT.to(model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        chosen_B = logits_BV.argmax(-1) if allowed is None else allowed[logits_BV[:, allowed].argmax(-1)]
        for row, token in enumerate(chosen_B.tolist()):
            if running[row]:
                rows[row].append(token)
                running[row] = token not in stop_ids and len(rows[row]) < limits[row]
        token_BT = chosen_B[:, None]
        mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)
        position_BT = position_BT[:, -1:] + 1
    return rows


def _require_context(
    model: PreTrainedModel,
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
