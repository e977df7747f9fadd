"""Work that goes on, in threads or on the GPU, while earlier results are used: in order, and few of them waiting.

An error of the work is raised where its result would have been used, and what was not begun is then given up.
"""

from __future__ import annotations  # torch takes two seconds to import, and threads need none

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BATCHES_AHEAD = 2
MOST_THREADS = 32
END = object()
T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], count: int = BATCHES_AHEAD) -> Generator[T]:
    """The items of an iterator that a thread of its own runs, at most `count` items ahead of their use."""
    iterator = iter(items)
    pool = ThreadPoolExecutor(1)
    try:
        waiting: deque[Future] = deque(pool.submit(next, iterator, END) for _ in range(count))
        while (item := waiting.popleft().result()) is not END:
            waiting.append(pool.submit(next, iterator, END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def mapped(function: Callable[[T], R], items: Iterable[T], count: int, threads: int | None = None) -> Generator[R]:
    """`function(item)` of every item in order, at most `count` items ahead of their use.

    It is called in `threads` threads, else as many as there are cores; `items` is run by the caller's thread.
    """
    iterator = iter(items)
    pool = ThreadPoolExecutor(threads or min(MOST_THREADS, len(os.sched_getaffinity(0))))
    try:
        waiting: deque[Future] = deque()
        while True:
            for item in islice(iterator, count + 1 - len(waiting)):
                waiting.append(pool.submit(function, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on `device`; a GPU copies it while it and the CPU go on."""
    if device.type == "cuda":
        tensor = tensor if tensor.is_pinned() else tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type == "cuda")


def fetched(batches: Iterable[tuple[T, Sequence[Tensor | None]]]) -> Iterator[tuple[T, list[Any]]]:
    """Copies on the CPU of every batch's tensors, given out once the next batch was started."""
    waiting: deque[tuple[T, list[Any], Callable[[], object]]] = deque()
    for key, tensors in batches:
        copies = [None if tensor is None else tensor.to("cpu", non_blocking=True) for tensor in tensors]
        waiting.append((key, copies, _copied(tensors)))
        if len(waiting) > 1:
            yield _complete(*waiting.popleft())
    while waiting:
        yield _complete(*waiting.popleft())


def _copied(tensors: Sequence[Tensor | None]) -> Callable[[], object]:
    """A function that waits until what the GPU was told to do up to now is done."""
    import torch

    if all(tensor is None or tensor.device.type != "cuda" for tensor in tensors):
        return lambda: None
    event = torch.cuda.Event()
    event.record()
    return event.synchronize


def _complete(key: T, copies: list[Any], wait: Callable[[], object]) -> tuple[T, list[Any]]:
    wait()
    return key, copies
