"""Zip and tar archives read within bounds, so that a small file cannot fill the disk or the memory.

What an archive says of its own sizes may be false; what is counted here are the bytes that really come out of it.
"""

import bz2
import gzip
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from v2l.errors import UserError

MOST_MEMBERS = 2_000_000  # ImageNet has 1.4 million files
FREE_BYTES = 256 << 20  # below which no ratio is asked for
MOST_TIMES_ITS_SIZE = 200  # texts and tables that compress well reach 20, a bomb of deflate 1032
LARGEST_READ = 64 << 20  # bytes at once: a tar's own headers are far below, and files are copied by the megabyte
DECOMPRESSORS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}
Member = tuple[str, Callable[[], IO[bytes]]]


@dataclass
class Bounds:
    """How much of an archive of `size` bytes has come out so far; `refuse(problem, expected)` makes the error."""

    size: int
    refuse: Callable[[str, str], UserError]
    members: int = field(default=0, init=False)
    unpacked: int = field(default=0, init=False)

    @classmethod
    def of(cls, source: Path, refuse: Callable[[str, str], UserError]) -> "Bounds":
        """Bounds for the archive at `source`."""
        return cls(source.stat().st_size, refuse)

    @property
    def most_bytes(self) -> int:
        """Bytes that may come out in all."""
        return max(FREE_BYTES, MOST_TIMES_ITS_SIZE * self.size)

    def count_member(self) -> None:
        """Raise UserError for one member more than an archive may have."""
        self.members += 1
        if self.members > MOST_MEMBERS:
            raise self.refuse(f"it has more than {MOST_MEMBERS:,} members", "an archive of fewer, larger files")

    def count_bytes(self, unpacked: int) -> None:
        """Raise UserError when `unpacked` more bytes are too many for the archive's size."""
        self.unpacked += unpacked
        if self.unpacked > self.most_bytes:
            raise self.refuse(
                f"its {self.size:,} bytes unpack to more than {self.most_bytes:,}",
                f"at most {MOST_TIMES_ITS_SIZE} times its size, or {FREE_BYTES:,} bytes",
            )


class BoundedReader:
    """A binary stream whose bytes are counted against bounds as they are read, or passed over by a seek."""

    def __init__(self, stream: IO[bytes], bounds: Bounds):
        self.stream, self.bounds, self.furthest = stream, bounds, 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer at the end. Raises UserError beyond the bounds, and for too many at once."""
        if not 0 <= size <= LARGEST_READ:
            raise self.bounds.refuse(
                f"one of its headers says that it has {size:,} bytes", "an archive as tar writes it"
            )
        data = self.stream.read(size)
        self._count()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of every stream; in steps, so that what is decompressed on the way is counted in time."""
        target = offset if whence == 0 else self.stream.tell() + offset
        while self.furthest + LARGEST_READ < target:
            before = self.furthest
            self.stream.seek(before + LARGEST_READ)
            self._count()
            if self.furthest == before:
                break
        place = self.stream.seek(target)
        self._count()
        return place

    def tell(self) -> int:
        """The place in the stream."""
        return self.stream.tell()

    def close(self) -> None:
        """Close the stream."""
        self.stream.close()

    def __enter__(self) -> "BoundedReader":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _count(self) -> None:
        place = self.stream.tell()
        if place > self.furthest:
            gained, self.furthest = place - self.furthest, place
            self.bounds.count_bytes(gained)


@contextmanager
def opened_zip(source: Path, bounds: Bounds) -> Iterator[Iterator[Member]]:
    """Members of a zip archive that are no folders, by name; of two of one name the last."""
    with zipfile.ZipFile(source) as archive:
        for _ in archive.infolist():
            bounds.count_member()

        def opened(name: str) -> IO[bytes]:
            return cast(IO[bytes], BoundedReader(archive.open(name), bounds))

        yield ((name, partial(opened, name)) for name in dict.fromkeys(archive.namelist()) if name[-1:] != "/")


@contextmanager
def opened_tar(source: Path, bounds: Bounds) -> Iterator[Iterator[Member]]:
    """Regular files of a tar archive, compressed or not, by name, in its order; links and devices are left out."""
    with open(source, "rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in DECOMPRESSORS.items() if head.startswith(magic)), _plain)
    with (
        BoundedReader(opener(source), bounds) as reader,
        tarfile.open(fileobj=cast(Any, reader), mode="r:") as archive,
    ):
        yield _regular_files(archive, bounds)


def _plain(source: Path) -> IO[bytes]:
    return open(source, "rb")


def _regular_files(archive: tarfile.TarFile, bounds: Bounds) -> Iterator[Member]:
    while (item := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # which would grow with the archive
        bounds.count_member()
        if item.isreg():
            if item.sparse is not None:
                raise bounds.refuse(f"its member {item.name!r} is a sparse file", "files without holes")
            yield item.name, partial(_extracted, archive, item)


def _extracted(archive: tarfile.TarFile, item: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(item)
    assert file is not None, "only what is no regular file has no content"
    return file
