import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.errors import UserError
from v2l.tasks.image_corruption import corruption_class, mask_positions
from v2l.tasks.token_maps import assemble, context, noisy_variants, steps

grids = st.tuples(st.integers(2, 20), st.integers(2, 20))


@pytest.mark.parametrize(
    ("task", "side", "rows", "columns"),
    [
        ("inpainting", 16, (4, 12), (4, 12)),
        ("inpainting", 8, (2, 6), (2, 6)),
        ("inpainting", 4, (1, 3), (1, 3)),
        ("outpainting", 16, (8, 16), (0, 16)),
        ("outpainting", 8, (4, 8), (0, 8)),
        ("outpainting", 4, (2, 4), (0, 4)),
        ("deblurring", 16, (0, 16), (0, 16)),
        ("shift", 8, (0, 8), (0, 8)),
        ("rotation", 4, (0, 4), (0, 4)),
    ],
)
def test_mask_of_each_task(task, side, rows, columns):
    expected = [row * side + column for row in range(*rows) for column in range(*columns)]
    assert mask_positions(task, (side, side)).tolist() == expected


def test_mask_of_an_odd_grid():
    assert mask_positions("inpainting", (5, 7)).tolist() == [9, 10, 11, 16, 17, 18]
    assert mask_positions("outpainting", (5, 2)).tolist() == [6, 7, 8, 9]


def test_mask_says_what_is_wrong():
    with pytest.raises(UserError, match="1x4.*image_size"):
        mask_positions("inpainting", (1, 4))
    with pytest.raises(UserError, match="'sharpening'.*deblurring"):
        mask_positions("sharpening", (4, 4))


def test_steps_of_the_paper():
    groups = steps(mask_positions("inpainting", (16, 16)), 2)
    assert len(groups) == 32
    assert [group.tolist() for group in groups[:5]] == [[68, 69], [70, 71], [72, 73], [74, 75], [84, 85]]
    assert len(steps(mask_positions("outpainting", (16, 16)), 2)) == 64
    assert len(steps(mask_positions("rotation", (16, 16)), 2)) == 128


def test_steps_stop_at_the_edge_of_the_mask():
    groups = steps(mask_positions("inpainting", (8, 8)), 3)
    assert [group.tolist() for group in groups[:3]] == [[18, 19, 20], [21], [26, 27, 28]]


@given(task=st.sampled_from(list(RESTORATION_TASKS)), grid=grids, predicted=st.integers(1, 9))
def test_steps_cover_the_mask_once_in_order(task, grid, predicted):
    positions = mask_positions(task, grid)
    groups = steps(positions, predicted)
    assert np.concatenate(groups).tolist() == positions.tolist()
    assert all(1 <= len(group) <= predicted and group[-1] - group[0] == len(group) - 1 for group in groups)


def shown(task, step, context_tokens):
    return context(corruption_class(task).is_masked, step, context_tokens)


def test_context_of_the_paper():
    assert shown("inpainting", np.array([68, 69]), 16).tolist() == list(range(52, 68))
    assert shown("outpainting", np.array([130, 131]), 16).tolist() == list(range(114, 130))
    assert shown("deblurring", np.array([68, 69]), 16).tolist() == list(range(52, 70))


def test_context_at_the_start_of_the_map():
    assert shown("rotation", np.array([0, 1]), 16).tolist() == [0, 1]
    assert shown("shift", np.array([4, 5]), 16).tolist() == [0, 1, 2, 3, 4, 5]
    assert shown("inpainting", np.array([5, 6]), 16).tolist() == [0, 1, 2, 3, 4]


def test_noise_golden():
    variants_SL = noisy_variants(np.arange(16), [0.5, 0.25], 100, np.random.default_rng(0))
    assert variants_SL.tolist() == [
        [81, 63, 2, 27, 93, 55, 67, 72, 8, 9, 10, 11, 12, 13, 14, 54],
        [86, 1, 2, 3, 4, 17, 6, 7, 84, 9, 10, 11, 8, 13, 14, 15],
    ]


@given(
    length=st.integers(1, 80),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_noise_replaces_the_share_at_the_same_places(length, shares, seed):
    codes_ML = np.stack([np.full(length, -1), np.full(length, -2)])  # values no replacement can take
    variants_SML = noisy_variants(codes_ML, shares, 50, np.random.default_rng(seed))
    assert variants_SML.shape == (len(shares), 2, length)
    for share, (clean_L, transformed_L) in zip(shares, variants_SML, strict=True):
        replaced = clean_L != -1
        assert replaced.sum() == int(share * length)
        assert np.array_equal(replaced, transformed_L != -2)
        assert np.array_equal(clean_L[replaced], transformed_L[replaced])
        assert ((clean_L[replaced] >= 0) & (clean_L[replaced] < 50)).all()
    assert codes_ML.tolist() == [[-1] * length, [-2] * length]


@given(length=st.integers(1, 256), further=st.integers(0, 21), share=st.floats(0, 1))
def test_released_noise_counts_the_global_tokens_too(length, further, share):
    """int(share * 277) of 256 positions in the released code, never more than there are."""
    variant_SL = noisy_variants(np.full(length, -1), [share], 50, np.random.default_rng(0), further)
    assert (variant_SL != -1).sum() == min(int(share * (length + further)), length)


def test_released_noise_golden():
    """0.50 ... 0.23 of the paper's 256 local and 21 global tokens."""
    shares = [0.50, 0.47, 0.44, 0.41, 0.38, 0.35, 0.32, 0.29, 0.26, 0.23]
    for further, counts in [
        (0, [128, 120, 112, 104, 97, 89, 81, 74, 66, 58]),
        (21, [138, 130, 121, 113, 105, 96, 88, 80, 72, 63]),
    ]:
        variants_SL = noisy_variants(np.full(256, -1), shares, 32000, np.random.default_rng(0), further)
        assert (variants_SL != -1).sum(axis=1).tolist() == counts


def test_noise_of_one_map_is_that_of_a_stack():
    one_SL = noisy_variants(np.arange(30), [0.5, 0.3], 9, np.random.default_rng(4))
    both_SML = noisy_variants(np.stack([np.arange(30)] * 2), [0.5, 0.3], 9, np.random.default_rng(4))
    assert np.array_equal(one_SL, both_SML[:, 0]) and np.array_equal(one_SL, both_SML[:, 1])


@given(task=st.sampled_from(list(RESTORATION_TASKS)), grid=grids, predicted=st.integers(1, 5), seed=st.integers(0, 99))
def test_assemble_fills_the_mask_and_keeps_the_rest(task, grid, predicted, seed):
    generator = np.random.default_rng(seed)
    clean_L, wanted_L = generator.integers(1000, size=(2, grid[0] * grid[1]))
    positions = mask_positions(task, grid)
    rows = [(group, wanted_L[group]) for group in steps(positions, predicted)]
    generator.shuffle(rows)
    restored_L = assemble(clean_L, positions, rows, 1000)
    assert np.array_equal(restored_L[positions], wanted_L[positions])
    outside = np.setdiff1d(np.arange(len(clean_L)), positions)
    assert np.array_equal(restored_L[outside], clean_L[outside])


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "0 of 4 masked positions"),
        ([([5, 6], [1, 1])], "2 of 4 masked positions are predicted, in 2"),
        ([([5, 6], [1, 1]), ([5, 6], [1, 1]), ([9, 10], [1, 1])], "4 of 4 masked positions are predicted, in 6"),
        ([([5, 6], [1, 1]), ([9, 10], [1, 9])], "from 1 to 9, the codebook has 9"),
        ([([5, 6], [1, 1]), ([9, 10], [1, -1])], "from -1 to 1"),
        ([([5, 6], [1]), ([9, 10], [1, 1])], "one code for each"),
    ],
)
def test_assemble_refuses_incomplete_predictions(rows, problem):
    with pytest.raises(ValueError, match=problem):
        assemble(np.zeros(16, int), mask_positions("inpainting", (4, 4)), rows, 9)
