"""What of a task's section decides one run: nothing that other runs have as their own, which may change without it."""

from typing import TypeVar

from v2l.configuration.evaluation import Classification, HeldOut, Restoration, TaskSection
from v2l.configuration.sources import HELD_OUT

S = TypeVar("S", bound=TaskSection)


def for_run(section: S, tokenizer: str, protocol: str) -> S:
    """`section` for a run on tokens of `tokenizer` in `protocol`.

    `grid` is the tokenizer's own, if it has one; of `images_of` only the tokenizer's entry stays, and `held_out` in its
    protocol alone.
    """
    if isinstance(section, Classification):
        return section.model_copy(update={"grid": section.grid_of.get(tokenizer, section.grid), "grid_of": {}})
    if isinstance(section, Restoration):
        own = {name: count for name, count in section.images_of.items() if name == tokenizer}
        held_out = section.held_out if protocol == HELD_OUT else HeldOut()
        return section.model_copy(update={"images_of": own, "held_out": held_out})
    return section
