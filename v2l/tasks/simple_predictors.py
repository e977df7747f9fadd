"""Predictors without a language model: what a number owes to the prompt's own content."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np


def token_overlap(query: Collection, support: Iterable[Collection]) -> int:
    """Index of the support item whose set of tokens has the largest Jaccard overlap with the query's.

    Ties: the first in the prompt's order, which is drawn with the seed.
    """
    overlaps = [len(set(query) & set(tokens)) / len(set(query) | set(tokens)) for tokens in support]
    return int(np.argmax(overlaps))


def clip_prototype(query_D: np.ndarray, support_SD: np.ndarray, support_labels: Sequence[int]) -> int:
    """Label of the class whose mean support feature has the largest cosine with the query's feature."""
    labels = np.asarray(support_labels)
    mean_CD = np.stack([support_SD[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    mean_CD /= np.linalg.norm(mean_CD, axis=1, keepdims=True)
    return int(np.argmax(mean_CD @ query_D))


def majority_vote(codes_SM: np.ndarray) -> list[Any]:
    """The most frequent code (or answer) of S examples at each of M positions.

    Codes that are equally frequent: the one that the last of their examples holds; examples of restoration stand most
    corrupted first.
    """
    winners = []
    for codes_S in np.asarray(codes_SM).T.tolist():
        counts = Counter(codes_S)
        last = {code: example for example, code in enumerate(codes_S)}
        winners.append(max(counts, key=lambda code: (counts[code], last[code])))
    return winners
