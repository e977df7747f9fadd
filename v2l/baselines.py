"""Predictors without a language model: what a number owes to the prompt's own content."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def token_overlap(query_K: np.ndarray, support_SK: np.ndarray) -> int:
    """Index of the support image whose set of token ids has the largest Jaccard overlap with the query's.

    Ties: the first in the prompt's order, which is drawn with the seed.
    """
    query = set(query_K.tolist())
    overlaps = [len(query & set(row)) / len(query | set(row)) for row in support_SK.tolist()]
    return int(np.argmax(overlaps))


def clip_prototype(query_D: np.ndarray, support_SD: np.ndarray, support_labels: Sequence[int]) -> int:
    """Label of the class whose mean support feature has the largest cosine with the query's feature."""
    labels = np.asarray(support_labels)
    mean_CD = np.stack([support_SD[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    mean_CD /= np.linalg.norm(mean_CD, axis=1, keepdims=True)
    return int(np.argmax(mean_CD @ query_D))


def majority_vote(codes_SM: np.ndarray) -> list[int]:
    """The most frequent code of S examples, most corrupted first, at each of M positions.

    Codes that are equally frequent: the one that the least corrupted of their examples holds.
    """
    winners = []
    for codes_S in np.asarray(codes_SM).T.tolist():
        counts = Counter(codes_S)
        last = {code: example for example, code in enumerate(codes_S)}
        winners.append(max(counts, key=lambda code: (counts[code], last[code])))
    return winners
