import threading
from itertools import count

import pytest
import torch

from v2l.errors import UserError
from v2l.io.overlap import ahead, fetched, mapped, sent


def counted(made: list[int], limit: int = 100):
    for number in range(limit):
        made.append(number)
        yield number


@pytest.mark.parametrize("lead", [1, 2, 5])
def test_items_come_in_order_and_at_most_so_many_are_made_ahead(lead):
    made: list[int] = []
    for number in ahead(counted(made), lead):
        assert number < len(made) + 1 <= number + 2 + lead
    assert made == list(range(100))


@pytest.mark.parametrize("threads", [1, None, 7])
def test_results_come_in_order_of_their_items(threads):
    turns = [threading.Event() for _ in range(3)]

    def backwards(number: int) -> int:
        if threads == 7 and number < 3:  # the first three end in the opposite order
            assert number == 2 or turns[number + 1].wait(10)
            turns[number].set()
        return number * number

    assert list(mapped(backwards, range(20), 4, threads)) == [number * number for number in range(20)]


def test_at_most_so_many_items_are_taken_ahead():
    made: list[int] = []
    for used, _ in enumerate(mapped(str, counted(made), 3)):
        assert len(made) <= used + 4


def test_threads_that_nobody_waits_for_end():
    def running():
        return {thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool")}

    before = running()
    for overlapped in (ahead(count()), mapped(str, count(), 3), ahead(mapped(str, count(), 3))):
        assert next(overlapped) in (0, "0")
        overlapped.close()
    assert running() <= before


@pytest.mark.parametrize("overlap", [lambda items: ahead(items), lambda items: mapped(str, items, 2)])
def test_an_error_of_the_items_comes_where_the_item_would(overlap):
    def failing():
        yield 1
        raise UserError("a", "b", "c")

    overlapped = overlap(failing())
    with pytest.raises(UserError):
        list(overlapped)


def test_an_error_of_the_function_comes_after_the_results_before_it():
    results = mapped(lambda number: 1 // (3 - number), range(10), 4)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_batch_is_given_out_once_the_next_is_started():
    made: list[int] = []
    batches = ((number, [torch.full((2,), number), None]) for number in counted(made, 4))
    for number, (tensor, nothing) in fetched(batches):
        assert tensor.tolist() == [number] * 2 and nothing is None
        assert len(made) == min(number + 2, 4)
    assert sent(torch.arange(3), torch.device("cpu")).tolist() == [0, 1, 2]
