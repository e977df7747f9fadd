"""Batches of a stage's own choice shrink when memory runs out; other errors, and the user's batches, are told."""

import pytest
import torch

from v2l.errors import UserError
from v2l.io.fitting_batches import FittingBatches


class Doubled:
    """Twice the items, where no more than `room` are asked for; remembers how many were."""

    def __init__(self, room, error=torch.OutOfMemoryError):
        self.room, self.error, self.asked = room, error, []

    def __call__(self, items):
        self.asked.append(len(items))
        if len(items) > self.room:
            raise self.error("no")
        return torch.tensor(items) * 2


def test_the_size_that_fits_is_kept_for_later_batches():
    fitting, compute = FittingBatches("doubling", "numbers", "key", None), Doubled(3)
    assert fitting(compute, list(range(9))).tolist() == list(range(0, 18, 2))
    assert fitting(compute, [5, 6, 7]).tolist() == [10, 12, 14]
    assert compute.asked == [9, 4, 2, 2, 2, 2, 1, 2, 1]


def test_what_fits_is_computed_at_once():
    compute = Doubled(9)
    assert FittingBatches("doubling", "numbers", "key", 2)(compute, [1, 2]).tolist() == [2, 4]
    assert compute.asked == [2]


@pytest.mark.parametrize(("chosen", "room", "count"), [(4, 3, 4), (None, 0, 1)])
def test_what_cannot_shrink_is_named(chosen, room, count):
    with pytest.raises(UserError, match=rf"doubling: .* {count} numbers.* free.*`key`"):
        FittingBatches("doubling", "numbers", "key", chosen)(Doubled(room), list(range(4)))


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="no"):
        FittingBatches("doubling", "numbers", "key", None)(Doubled(0, RuntimeError), [1, 2])
