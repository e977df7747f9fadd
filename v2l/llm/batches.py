"""Which prompts are computed together."""

from collections.abc import Sequence

BATCH_COST = 32  # tokens that a forward pass costs besides its own: reading the weights


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
