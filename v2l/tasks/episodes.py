"""Few-shot episodes: which images are shown with their class and which one is asked for."""

from dataclasses import dataclass

import numpy as np

from v2l.errors import UserError
from v2l.runtime import rng


@dataclass(frozen=True)
class Episode:
    """One question. Images are positions in the arrays given to `sample_episodes`."""

    number: int
    class_names: list[str]  # alphabetical
    support: list[int]  # ways * inner_shots images, in the order of the prompt
    support_labels: list[int]  # index into class_names, for each of `support`
    query: int
    target: str


def sample_episodes(
    split: np.ndarray,
    class_name: np.ndarray,
    ways: int,
    inner_shots: int,
    episodes: int,
    support_split: str,
    query_split: str,
    seed: int,
) -> list[Episode]:
    """Episodes over images given by their `split` and `class_name`, each drawn from `seed` and its number alone.

    The classes of an episode are distinct, the query is never in the support, and episodes of more inner shots show the
    images of those with fewer and others besides. Induction, repeats and tokens per image play no part, so cells of the
    table that differ in these alone ask the same questions. A class without query images is never the target.

    Raises UserError if a class has too few support images, or if there are too few classes.
    """
    names = sorted(set(class_name[np.isin(split, [support_split, query_split])].tolist()))
    support_of = {name: np.flatnonzero((class_name == name) & (split == support_split)) for name in names}
    query_of = {name: np.flatnonzero((class_name == name) & (split == query_split)) for name in names}
    needed = inner_shots + (support_split == query_split)
    for name in names:
        if len(support_of[name]) < needed:
            raise UserError(
                f"class {name!r} has {len(support_of[name])} images in split {support_split!r} of the sample",
                f"at least {needed} for {ways}-way episodes with {inner_shots} inner shots"
                + (" and a query" if support_split == query_split else ""),
                "lower inner_shots in `evaluate_llm.classification.grid`, add images, or leave the class out",
            )
    targets = [name for name in names if len(query_of[name])]
    if len(names) < ways or not targets:
        raise UserError(
            f"{len(names)} classes have images in split {support_split!r}, {len(targets)} in split {query_split!r}",
            f"at least {ways} classes, one of them with a query image, for {ways}-way episodes",
            "lower ways in `evaluate_llm.classification.grid` or name other splits in `evaluate_llm.classification`",
        )
    return [
        _draw(number, names, targets, support_of, query_of, inner_shots, rng(seed, "episode", ways, number), ways)
        for number in range(episodes)
    ]


def _draw(
    number: int,
    names: list[str],
    targets: list[str],
    support_of: dict[str, np.ndarray],
    query_of: dict[str, np.ndarray],
    inner_shots: int,
    generator: np.random.Generator,
    ways: int,
) -> Episode:
    target = targets[generator.integers(len(targets))]
    query = int(generator.choice(query_of[target]))
    others = [name for name in names if name != target]
    classes = sorted([target, *(others[index] for index in generator.choice(len(others), ways - 1, replace=False))])
    pairs = []
    for label, name in enumerate(classes):
        shown = [int(image) for image in generator.permutation(support_of[name]) if image != query]
        pairs += [(image, label) for image in shown[:inner_shots]]
    pairs = [pairs[index] for index in generator.permutation(len(pairs))]
    return Episode(number, classes, [image for image, _ in pairs], [label for _, label in pairs], query, target)
