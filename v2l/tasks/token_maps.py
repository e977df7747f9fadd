"""The restoration protocol in pure functions on token maps: gaps, prediction steps, prompt windows, noise, assembly.

A token map is a row-major array codes_L of L = h * w local codes; a position is an index into it. The tasks and
defaults are those of paper section 3.3; where the text is silent, the released code decides (`released`).
"""

from collections.abc import Iterable

import numpy as np

from v2l.configuration.evaluation import Restoration
from v2l.configuration.sources import HELD_OUT, PAPER, RELEASED
from v2l.runtime import rng


def image_count(section: Restoration, tokenizer: str, protocol: str) -> int | None:
    """How many images, from the first, are restored with the tokens of `tokenizer` in `protocol`; None: all."""
    limits = [section.images_of.get(tokenizer), section.held_out.images if protocol == HELD_OUT else None]
    return min((limit for limit in limits if limit is not None), default=None)


def image_mask(length: int, share: float, seed: int, image_id: str) -> np.ndarray:
    """masked_L of an image in masked restoration: see `random_mask`; of `seed` and `image_id` alone."""
    return random_mask(length, share, rng(seed, "masked", image_id))


def random_mask(length: int, share: float, generator: np.random.Generator) -> np.ndarray:
    """Which of `length` positions are masked: masked_L (bool), round(share * length) of them, at least one."""
    masked_L = np.zeros(length, dtype=bool)
    masked_L[generator.choice(length, max(1, round(share * length)), replace=False)] = True
    return masked_L


def steps(positions: np.ndarray, predicted_tokens: int) -> list[np.ndarray]:
    """`positions` (ascending) as the groups that are predicted one after the other.

    A group holds up to `predicted_tokens` (the paper's m) positions that follow each other in the map without a gap,
    so it never runs over the edge of a mask; the last group before a gap may be shorter.
    """
    gaps = np.flatnonzero(np.diff(positions) != 1) + 1
    runs = np.split(positions, gaps)
    return [run[start : start + predicted_tokens] for run in runs for start in range(0, len(run), predicted_tokens)]


def context(is_masked: bool, step: np.ndarray, context_tokens: int, protocol: str = PAPER) -> np.ndarray:
    """Positions (int64, ascending) that the input of a prompt shows when the positions `step` are predicted.

    Masked tasks (inpainting, outpainting): the `context_tokens` (the paper's n) positions before the step in the
    row-major map, masked or not; the test input takes predictions made so far there (released: previous n tokens ->
    next m).
    Other tasks: those n positions and the step's own, n + m in all, of the transformed map; in protocol `released`
    only the step's own.
    Near the start of the map, where fewer than n positions exist, those that exist.
    """
    first = int(step[0])
    end = first if is_masked else int(step[-1]) + 1
    if protocol == RELEASED and not is_masked:
        context_tokens = 0
    return np.arange(max(0, first - context_tokens), end, dtype=np.int64)


def noisy_variants(
    codes_ML: np.ndarray,
    shares: Iterable[float],
    codebook_size: int,
    generator: np.random.Generator,
    further: int = 0,
) -> np.ndarray:
    """A copy of the map(s) for each of the S `shares`, with int(share * L) random positions set to random codes.

    `codes_ML` is one map codes_L or a stack of M maps (clean and transformed): every map of a stack gets the same
    codes at the same positions (released). Codes are drawn evenly from 0..codebook_size-1, so a position may draw the
    code it had. Returns codes_SL or codes_SML in the order of `shares`. The paper's shares are of the L local tokens;
    released: of the local and global tokens together, int(share * 277) of 256; `further` is the number of the latter.
    `generator` comes from `runtime.rng(seed, purpose, image_id)`, so variants do not depend on order.
    """
    codes_ML = np.asarray(codes_ML)
    length = codes_ML.shape[-1]
    variants = []
    for share in shares:
        count = min(int(share * (length + further)), length)
        positions = generator.choice(length, count, replace=False)
        variant = codes_ML.copy()
        variant[..., positions] = generator.integers(codebook_size, size=count)
        variants.append(variant)
    return np.stack(variants)


def assemble(
    clean_codes_L: np.ndarray, positions: np.ndarray, rows: Iterable[tuple[np.ndarray, np.ndarray]], codebook_size: int
) -> np.ndarray:
    """The restored map: `clean_codes_L` with the predictions of one image filled in at the masked `positions`.

    `rows` are (positions, predicted_codes) of each step, in any order. Raises ValueError, in the words of a problem
    (no file name), if they do not cover `positions` exactly once or hold a code outside 0..codebook_size-1.
    """
    rows = [(np.asarray(where, np.int64), np.asarray(codes, np.int64)) for where, codes in rows]
    if any(len(where) != len(codes) for where, codes in rows):
        raise ValueError("a step has not one code for each of its positions")
    where = np.concatenate([row[0] for row in rows]) if rows else np.zeros(0, np.int64)
    codes = np.concatenate([row[1] for row in rows]) if rows else np.zeros(0, np.int64)
    if not np.array_equal(np.sort(where), positions):
        found = len(np.intersect1d(where, positions))
        raise ValueError(f"{found} of {len(positions)} masked positions are predicted, in {len(where)} predictions")
    if len(codes) and (codes.min() < 0 or codes.max() >= codebook_size):
        raise ValueError(f"predicted codes run from {codes.min()} to {codes.max()}, the codebook has {codebook_size}")
    restored_L = np.array(clean_codes_L, copy=True)
    restored_L[where] = codes
    return restored_L
