"""Which prompts are computed together."""

import math
from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np

Items = TypeVar("Items", bound=Sequence)

BATCH_COST = 32  # tokens that a forward pass costs besides its own: reading the weights
BLOCK = 8  # batches of a block, where their size is set
LEAST, MOST = 64, 512  # prompts of a block otherwise: few, so that small runs can be shared out; enough for any card
SHARES = 32  # blocks that a run of middling size is divided into


def split_blocks(items: Items, size: int | None = None, prompts: int = 1) -> list[Items]:
    """`items`, which ask `prompts` prompts at a time, in the blocks that are answered, kept and shared out together.

    `size` items are a block; None: as their number wants it, whatever machine computes them.
    """
    wanted = min(max(math.ceil(len(items) * prompts / SHARES), LEAST), MOST)
    size = size or max(1, wanted // prompts)
    return [cast(Items, items[start : start + size]) for start in range(0, len(items), size)]


def plan_batches(
    lengths: Sequence[int],
    batch_size: int | None = None,
    tokens: float = math.inf,
    held: int = 0,
    padded: bool = True,
) -> list[list[int]]:
    """Indices of the prompts of each batch, longest first, in the cheapest split of the prompts sorted by length.

    A batch holds up to `batch_size` prompts and costs BATCH_COST and, for each prompt, the length of its longest. So
    prompts of very different lengths are not padded to one; without `padded` those of a batch have the same length. In
    memory a prompt takes `held` tokens more than the longest has, and a batch of more than one at most `tokens`. The
    same numbers always give the same split.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    length_N = np.array([lengths[index] for index in order], dtype=np.int64)
    cost_N, begins = np.zeros(len(order) + 1, dtype=np.int64), [0]  # of the cheapest split of the first prompts
    first = 0  # that can be in one batch with the last one
    for end in range(1, len(order) + 1):
        first = max(first, end - (batch_size or end))
        while first < end - 1 and (
            (length_N[first] + held) * (end - first) > tokens or not padded and length_N[first] > length_N[end - 1]
        ):
            first += 1
        cost_F = cost_N[first:end] + BATCH_COST + length_N[first:end] * np.arange(end - first, 0, -1)
        begins.append(first + int(cost_F.argmin()))
        cost_N[end] = cost_F.min()
    batches, end = [], len(order)
    while end:
        batches.append(order[begins[end] : end])
        end = begins[end]
    return batches[::-1]
