"""Which prompts are computed together."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

BATCH_COST = 32  # tokens that a forward pass costs besides its own: reading the weights
BLOCK = 8  # batches: enough prompts to find others of their length


def split_blocks(items: Sequence[Item], batch_size: int) -> list[Sequence[Item]]:
    """`items` in the blocks of BLOCK batches that are answered, kept and shared out together."""
    size = BLOCK * batch_size
    return [items[start : start + size] for start in range(0, len(items), size)]


def plan_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of the prompts of each batch, longest first, in the cheapest split of the prompts sorted by length.

    A batch holds up to `batch_size` prompts and costs BATCH_COST and, for each prompt, the length of its longest. So
    prompts of very different lengths are not padded to one. The same lengths are always split in the same way.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    costs, begins = [0], [0]  # of the cheapest split of the first prompts of `order`, and where its last batch begins
    for end in range(1, len(order) + 1):
        starts = range(max(0, end - batch_size), end)
        cost, begin = min(
            (costs[start] + BATCH_COST + lengths[order[start]] * (end - start), start) for start in starts
        )
        costs.append(cost)
        begins.append(begin)
    batches, end = [], len(order)
    while end:
        batches.append(order[begins[end] : end])
        end = begins[end]
    return batches[::-1]
