"""How a measure has its work done by several processes, without knowing of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

Block = TypeVar("Block")


class Share(Protocol):
    """`share(blocks, tables)`: the table of every block in order, where `tables(blocks)` makes one for each of some."""

    def __call__(
        self, blocks: Sequence[Block], tables: Callable[[Sequence[Block]], Iterable[pa.Table]]
    ) -> Iterator[pa.Table]: ...
