"""What a stage reaches beside the published procedure, and of what the device can do.

The limit is arithmetic: the stage's floating-point operations over the rate of the best matrix product of the same
precision measured on the device, or its bytes over the rate of a copy, whichever takes longer.
"""

import gc
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from v2l.precision import WEIGHTS, computed_in

FEWEST_ROUNDS, MOST_ROUNDS = 3, 9


@dataclass(frozen=True)
class Rates:
    """FLOP/s of the best matrix product of each precision, and bytes/s read and written by a copy."""

    products: dict[str, float]
    copy: float


@dataclass(frozen=True)
class Case:
    """One stage in one precision.

    `own` and `published` work on `items` and `published_items` and return what `agreement` compares. `flop` counts the
    operations that an item needs; `bytes_per_item` is what it must write and read again.
    """

    stage: str
    precision: str
    unit: str
    own: Callable[[], Any]
    items: int
    published: Callable[[], Any]
    published_items: int
    flop: Callable[[], float]
    agreement: Callable[[Any, Any], dict[str, float]]
    bytes_per_item: float = 0.0
    sizes: dict[str, Any] = field(default_factory=dict)


def measured(case: Case, where: torch.device, rates: Rates, seconds: float) -> dict[str, Any]:
    """Both procedures in turn, for `seconds` but at least three rounds: medians, ratio, share of the limit, agreement.

    Each runs once untimed; from these runs comes the agreement. The peak memory is that of the first two own runs.
    """
    _reset_peak(where)
    own_result = case.own()
    times = {"own": [timed(case.own, where)], "published": []}
    peak = _peak(where)
    with default_switches():
        published_result = case.published()
    agreement = case.agreement(own_result, published_result)
    del own_result, published_result
    started = time.perf_counter()
    while True:
        with default_switches():
            times["published"].append(timed(case.published, where))
        rounds = len(times["published"])
        if rounds >= MOST_ROUNDS or (rounds >= FEWEST_ROUNDS and time.perf_counter() - started > seconds):
            break
        times["own"].append(timed(case.own, where))
    own = statistics.median(times["own"]) / case.items
    published = statistics.median(times["published"]) / case.published_items
    flop, product = case.flop(), rates.products.get(case.precision, rates.products["float32"])
    limit = max(flop / product, case.bytes_per_item / rates.copy)
    return {
        "items_per_second": 1 / own,
        "unit": case.unit,
        "published_items_per_second": 1 / published,
        "ratio": published / own,
        "share_of_limit": limit / own,
        "flop_per_item": flop,
        "bytes_per_item": case.bytes_per_item,
        "flops": flop / own,
        "product_flops": product,
        "peak_bytes": peak,
        "agreement": agreement,
        "items": case.items,
        "published_items": case.published_items,
        "seconds": times["own"],
        "published_seconds": times["published"],
        "sizes": case.sizes,
    }


@contextmanager
def default_switches() -> Iterator[None]:
    """PyTorch as it starts: TF32 in convolutions, none in matrix products."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def timed(function: Callable[[], Any], where: torch.device) -> float:
    """Seconds until `function` and all that it started on the device have ended."""
    _wait(where)
    started = time.perf_counter()
    function()
    _wait(where)
    return time.perf_counter() - started


def processor_seconds(function: Callable[[], Any], where: torch.device) -> float:
    """Seconds of `function` that other programs disturb less: this process's own on CPUs; on a GPU as `timed`."""
    if where.type == "cuda":
        return timed(function, where)
    started = time.process_time()
    function()
    return time.process_time() - started


def counted(function: Callable[[], Any]) -> float:
    """Floating-point operations of matrix products, convolutions and attention in `function`.

    Attention is split into its products meanwhile: the counter does not know every fused kernel.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _WholeFunction()
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            function()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return float(counter.get_total_flops())


class _WholeFunction(nullcontext):
    """In place of the counter's own tracker of modules, whose hooks forbid gradients of a network's input."""

    parents = frozenset({"Global"})


def device_rates(where: torch.device, quick: bool = False) -> Rates:
    """The best of several sizes of square matrix products in each precision that the device computes in itself."""
    on_gpu = where.type == "cuda"
    sides = [2048, 4096, 8192, 16384] if on_gpu else [256] if quick else [512, 1024, 2048]
    products = {}
    for precision, dtype in WEIGHTS.items():
        if precision == "tf32" and not on_gpu:
            continue
        best = 0.0
        for side in sides:
            factor = torch.randn(side, side, device=where).to(dtype)
            out = torch.empty_like(factor)
            with computed_in("tf32" if precision == "tf32" else "float32"):
                seconds = _best(lambda factor=factor, out=out: torch.mm(factor, factor, out=out), where)
            best = max(best, 2 * side**3 / seconds)
            if seconds > 0.1:
                break
        products[precision] = best
    source = torch.empty(2**28 if on_gpu else 2**25, dtype=torch.float32, device=where).fill_(1)
    target = torch.empty_like(source)
    return Rates(products, 2 * source.nbytes / _best(lambda: target.copy_(source), where))


def equal_share(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Share of equal entries among the rows that both have."""
    rows = min(len(found), len(expected))
    return {"equal_share": float((found[:rows].cpu() == expected[:rows].cpu()).double().mean())}


def cosine(found_ND: Tensor, expected_ND: Tensor) -> dict[str, float]:
    """The smallest cosine of a row with its counterpart, among the rows that both have."""
    rows = min(len(found_ND), len(expected_ND))
    pairs = (part[:rows].cpu().double() for part in (found_ND, expected_ND))
    return {"cosine": float(torch.nn.functional.cosine_similarity(*pairs, dim=1).min())}


def _best(function: Callable[[], Any], where: torch.device) -> float:
    """Seconds of the fastest of several runs of `function`, each long enough to be timed."""
    function()
    once = timed(function, where)
    repeats = max(1, min(50, int(0.02 / max(once, 1e-6))))

    def repeated() -> None:
        for _ in range(repeats):
            function()

    return min(timed(repeated, where) for _ in range(3)) / repeats


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize()


def peak_during(function: Callable[[], Any], where: torch.device) -> int:
    """Most bytes allocated on the GPU, or the largest resident set of this process, while `function` runs."""
    _reset_peak(where)
    function()
    _wait(where)
    return _peak(where)


def _reset_peak(where: torch.device) -> None:
    if where.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif (marks := Path("/proc/self/clear_refs")).exists():
        marks.write_text("5")  # Linux: the highest resident set so far is forgotten


def _peak(where: torch.device) -> int:
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if (status := Path("/proc/self/status")).exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
