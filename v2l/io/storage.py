"""Parquet tables and safetensors matrices with their provenance in the file's own metadata."""

from __future__ import annotations  # torch takes two seconds to import, and tables need none

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from v2l.io.atomic import atomic_path
from v2l.io.digests import BLANK, DIGEST, damaged, require_whole, seal
from v2l.io.provenance import KEY

if TYPE_CHECKING:
    import torch

ROWS_PER_GROUP = 4096
ARROW_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}  # of Python's
UNREADABLE = (pa.ArrowException, SafetensorError, OSError, ValueError, KeyError, AttributeError, RecursionError)
Read = TypeVar("Read")


@contextmanager
def parquet_writer(
    path: Path, schema: pa.Schema, record: dict, metadata: dict | None = None
) -> Iterator[pq.ParquetWriter]:
    """An atomic Parquet file of `schema`; metadata key `v2l` holds `record`, and each of `metadata` is a JSON value."""
    entries = {KEY: record} | (metadata or {})
    schema = schema.with_metadata({key: json.dumps(value, sort_keys=True) for key, value in entries.items()})
    with atomic_path(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            writer.add_key_value_metadata({DIGEST: BLANK})
            yield writer
        seal(temporary)


def write_parquet(path: Path, table: pa.Table, record: dict, metadata: dict | None = None) -> None:
    """Write `table` at once; see `parquet_writer`."""
    with parquet_writer(path, table.schema, record, metadata) as writer:
        writer.write_table(table.cast(writer.schema), row_group_size=ROWS_PER_GROUP)


def regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` each, the last one less: what a row group should hold."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= rows:
            together = pa.concat_tables(waiting)
            yield together[:rows]
            waiting = [together[rows:]]
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting)


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file for reading in parts, once it is known to be whole. Raises UserError for one that is not."""
    return _read(path, pq.ParquetFile)


def read_parquet(path: Path, columns: list[str] | None = None, filters: Any = None) -> pa.Table:
    """The rows of a Parquet file, as `pyarrow.parquet.read_table`. Raises UserError for a damaged file."""
    return _read(path, lambda path: pq.read_table(path, columns=columns, filters=filters))


def read_leaf(path: Path, leaf: str) -> pa.ChunkedArray:
    """The nested column of a Parquet file that `leaf` is in, with that part alone. Raises UserError likewise."""
    return _read(path, lambda path: pq.ParquetFile(path).read([leaf])[leaf.partition(".")[0]])


def parquet_metadata(path: Path) -> dict:
    """Every JSON value in a Parquet file's metadata, by key (`v2l` is the provenance). Raises UserError if damaged."""

    def read(path: Path) -> dict:
        entries = {key.decode(): value for key, value in (pq.read_schema(path).metadata or {}).items()}
        return {key: json.loads(entries[key]) for key in entries if key not in ("ARROW:schema", DIGEST)}

    return _read(path, read)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], record: dict, metadata: dict | None = None) -> None:
    """Write `tensors` atomically as safetensors, with `record` (under `v2l`) and `metadata` in the header.

    All metadata is one JSON value, because safetensors writes several entries in random order.
    """
    from safetensors.torch import save_file

    entries = {KEY: record, DIGEST: BLANK.decode()} | (metadata or {})
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={KEY: json.dumps(entries, sort_keys=True)},
        )
        seal(temporary)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """CPU tensors and metadata of a safetensors file (`v2l` is the provenance). Raises UserError if it is damaged."""

    def read(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118

    return _read(path, read)


def tensor_metadata(path: Path) -> dict:
    """The metadata of a safetensors file alone, without its tensors. Raises UserError for a damaged file."""

    def read(path: Path) -> dict:
        with safe_open(path, framework="np") as file:
            return _metadata(file)

    return _read(path, read)


def vectors(tensor_NK: torch.Tensor) -> pa.FixedSizeListArray:
    """A Parquet column of N vectors of K values."""
    values_NK = tensor_NK.detach().cpu().numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(values_NK.ravel()), values_NK.shape[1])


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """The N x K values of a column of vectors."""
    return column.combine_chunks().flatten().to_numpy().reshape(len(column), column.type.list_size)


def hash_tensor(tensor: torch.Tensor) -> str:
    """SHA-256 over shape and float32 values: codebooks of equal hash give codes the same meaning."""
    digest = hashlib.sha256(str(tuple(tensor.shape)).encode())
    digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _metadata(file) -> dict:
    found = json.loads((file.metadata() or {}).get(KEY, "{}"))
    return {key: value for key, value in found.items() if key != DIGEST} if isinstance(found, dict) else {}


def _read(path: Path, read: Callable[[Path], Read]) -> Read:
    require_whole(path)
    try:
        return read(path)
    except UNREADABLE as error:  # of a file without digest
        raise damaged(path, error) from None
