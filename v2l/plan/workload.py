"""What a row of the plan stands for: a stage's work on one network, before it is known which card does it."""

from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes that a job holds on its cards: `fixed`, and `per_item` for each of the `items` that it computes at once.

    `is_shared`: whether the cards share these items, each with all that is fixed (training), or the layers of one
    network (language models, `is_divisible`); else a job takes one card. None items: as many as fit, at least one.
    """

    fixed: float
    per_item: float = 0
    items: int | None = 0
    is_shared: bool = False
    is_divisible: bool = False


class Workload(NamedTuple):
    """`items` of `unit`; `flops` in `precision`, None if no network computes. Bytes are those of files.

    `decoded`: pictures that CPUs decode for it. `part`: the stage's task, which benchmarks may have measured by itself.
    """

    stage: str
    what: str
    items: float
    unit: str
    flops: float = 0
    precision: str | None = None
    bytes_read: float = 0
    bytes_written: float = 0
    memory: Memory | None = None
    decoded: float = 0
    notes: tuple[str, ...] = ()
    part: str = ""
