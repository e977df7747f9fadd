"""Confidence intervals over items."""

from collections.abc import Callable
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLED_VALUES = 4_000_000  # drawn at a time, to bound memory


def mean_interval(
    values: np.ndarray, samples: int, generator: np.random.Generator
) -> tuple[float | None, float | None, str]:
    """95 % percentile bootstrap interval of the mean of `values` (N,): low, high and an empty note.

    The order of the values does not matter. Without spread among the values (N = 1, or all equal) there is nothing to
    resample: low and high are None and the note says why. Raises ValueError for N = 0 or values that are not finite.
    """
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError("the bootstrap needs at least one value, and finite ones")
    if len(values) == 1:
        return None, None, "no confidence interval: a single item"
    if np.ptp(values) == 0:
        return None, None, "no confidence interval: all items are equal"
    result = _resampled_means(np.sort(np.asarray(values, dtype=np.float64)), samples, generator)
    return float(result.confidence_interval.low), float(result.confidence_interval.high), ""


def paired_interval(
    difference_N: np.ndarray, samples: int, generator: np.random.Generator
) -> tuple[float | None, float | None, float | None]:
    """95 % percentile bootstrap interval of the mean of N paired differences, and the two-sided p of a mean of zero.

    p is the share of random signs of the differences (all 2^N where these are at most `samples`) with a mean as far
    from zero: unlike a p of the bootstrap it is no smaller than a few items allow. All three are None without spread
    among the differences. Raises ValueError as above.
    """
    if len(difference_N) == 0 or not np.isfinite(difference_N).all():
        raise ValueError("the bootstrap needs at least one difference, and finite ones")
    if np.ptp(difference_N) == 0:
        return None, None, None
    from scipy.stats import permutation_test

    interval = _resampled_means(difference_N, samples, generator).confidence_interval
    signs = permutation_test(
        (difference_N,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=samples,
        batch=max(1, RESAMPLED_VALUES // len(difference_N)),
        rng=generator,
    )
    return float(interval.low), float(interval.high), float(signs.pvalue)


def set_interval(
    metric: Callable[[np.ndarray], float], n: int, samples: int, generator: np.random.Generator
) -> tuple[float | None, float | None, str]:
    """95 % percentile bootstrap interval of a metric of a whole set, given the positions of its items; as above."""
    values = [metric(generator.integers(n, size=n)) for _ in range(samples)]
    if np.ptp(values) == 0:
        return None, None, "no confidence interval: all resamples are equal"
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high), ""


def _resampled_means(values: np.ndarray, samples: int, generator: np.random.Generator) -> Any:
    """SciPy's result."""
    from scipy.stats import bootstrap  # a second to import, which figures need not pay

    return bootstrap(
        (values,),
        np.mean,
        n_resamples=samples,
        batch=max(1, RESAMPLED_VALUES // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=generator,
    )
