"""Pickles from strangers: read for their arrays, tensors and texts, never executed.

A pickle may name any function and have it called while it is read. Here a name is either known to build plain data, or
stands for an inert object (what training scripts put beside the weights), or the whole file is refused.
"""

import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy._core import multiarray

from v2l.errors import UserError
from v2l.io.file_kinds import kind_of
from v2l.memory_errors import lacks_memory

# What pickles of numpy arrays are made of. Python-2 era protocols name numpy's old private module.
ARRAY_NAMES = {
    f"numpy{core}.multiarray.{name}": getattr(multiarray, name)
    for core in (".core", "._core")
    for name in ("_reconstruct", "scalar")
} | {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
# What stands beside the weights of a checkpoint: settings, logs and callbacks of the script that wrote it.
INERT_NAMES = {
    "argparse.Namespace",
    "collections.defaultdict",
    "torch.device",
    "typing.Any",
    *ARRAY_NAMES,
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")),
    *(f"builtins.{name}" for name in ("bool", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple")),
}
INERT_PACKAGES = {"lightning", "lightning_fabric", "omegaconf", "pytorch_lightning", "taming", "ldm"}
MAPPINGS = (".AttributeDict", ".defaultdict")
BROKEN = (
    *(pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError, IndexError),
    *(AttributeError, TypeError, AssertionError, RecursionError, OverflowError, MemoryError, struct.error),
    *(zipfile.BadZipFile, NotImplementedError),
)


class Inert:
    """Takes the place of a foreign class: takes and keeps nothing."""

    def __new__(cls, *_) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_):
        pass

    def __setstate__(self, state: object) -> None:
        pass


class InertMapping:
    """Takes the place of a foreign class of mappings; its objects are plain ordered ones, whatever their defaults."""

    def __new__(cls, *_) -> Any:
        return OrderedDict()


def read_checkpoint(path: Path) -> dict:
    """The dict that `torch.save` wrote to `path`, tensors on the CPU, other objects inert.

    Tensors of a file in today's format are mapped, not read: what nobody looks at costs no memory. Raises UserError,
    with nothing executed, if the file names a function or class beyond those above or holds anything but a dict.
    """
    content = _read(path, _load)
    if not isinstance(content, dict):
        raise _refused(path, f"it holds a {type(content).__name__}, not a dict")
    return content


def read_tensor(path: Path) -> torch.Tensor:
    """The one tensor that `torch.save` wrote to `path`. Raises UserError on any other content."""
    content = _read(path, _load_tensor)
    if not isinstance(content, torch.Tensor):
        raise _refused(path, f"it holds a {type(content).__name__}, not a tensor")
    return content.detach()


def read_array_pickle(file: BinaryIO) -> object:
    """The next pickle in `file`, of numpy arrays and plain data. Raises UnpicklingError on any other content."""
    try:
        return _ArrayUnpickler(file).load()
    except BROKEN as error:
        raise pickle.UnpicklingError(str(error)) from None


def read_texts(path: Path) -> list[str]:
    """The texts of a one-dimensional `.npy` array of strings or string objects. Raises UserError on anything else."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](file)
            if dtype.hasobject:
                array = read_array_pickle(file)
            else:
                file.seek(0)
                array = np.lib.format.read_array(file, allow_pickle=False)
    except BROKEN as error:
        if lacks_memory(error, path):
            raise
        raise _refused(path, unpicklable(error)) from None
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.shape != shape:
        raise _refused(path, f"it holds no one-dimensional array of its header's shape {shape}")
    texts = array.tolist()
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise _refused(path, f"entry {index} is a {type(text).__name__}, not a text")
    return [str(text) for text in texts]


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        try:
            return ARRAY_NAMES[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not run") from None


def _load(path: Path) -> object:
    zipped = _is_zipped(path)
    inert = set(INERT_NAMES)
    if zipped:
        named = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        inert |= {name for name in named if name.split(".")[0] in INERT_PACKAGES}
        if foreign := sorted(named - inert):
            raise pickle.UnpicklingError(f"it names {', '.join(foreign)}, which is not run")
    stand_ins: list[Callable | tuple[Callable, str]] = [
        (InertMapping if name.endswith(MAPPINGS) else Inert, name) for name in inert
    ]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _load_tensor(path: Path) -> object:
    _is_zipped(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_zipped(path: Path) -> bool:
    """Whether a file is of today's format, a zip. Raises UnpicklingError if it would grow when it is unpacked."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":  # torch.save since PyTorch 1.6
            return False
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise pickle.UnpicklingError("its tensors are compressed, which PyTorch never does")
    return True


def require_own_values(content: object) -> None:
    """Raise UnpicklingError for a tensor in nested dicts, lists and tuples that has more values than are stored: a few
    bytes that would fill the memory as soon as anything is computed of them."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, torch.Tensor) and _has_more_values_than_stored(value):
            raise pickle.UnpicklingError(f"a tensor has {value.numel():,} values, of which fewer are stored")


def _has_more_values_than_stored(tensor: torch.Tensor) -> bool:
    if tensor.layout is not torch.strided or tensor.is_meta:
        return False
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def unpicklable(error: BaseException) -> str:
    """Why a pickle was not read, in one line: what it names, or that it is damaged.

    torch's own text goes on with advice to read the file unsafely, of which nothing gets through.
    """
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    text = str(error)
    if named := re.search(r"GLOBAL (\S+)", text):
        return f"it names {named[1]}, which is not run"
    if "TorchScript archive" in text:
        return "it is a TorchScript program, which is not run"
    if "which is not run" in text:
        return text.splitlines()[0]
    if "Weights only load failed" in text:
        cause = re.search(r"Unsupported operand (\d+)|Unsupported (?:class|type) (\S+)", text)
        return f"it is no plain pickle of tensors{f' ({cause[0].lower()})' if cause else ''}, or is damaged"
    first = (text.strip().splitlines() or [type(error).__name__])[0]
    return "it is no plain pickle of tensors, or is damaged" if "weights_only" in first else first


def _read(path: Path, load: Callable[[Path], object]) -> object:
    """What `load` reads from `path`. Raises UserError for a file that is no such thing at first sight, or is broken."""
    if path.is_file() and (kind := kind_of(path)):
        raise _refused(path, f"it is {kind}")
    try:
        content = load(path)
        require_own_values(content)
        return content
    except BROKEN as error:
        if lacks_memory(error, path):
            raise
        raise _refused(path, unpicklable(error)) from None


def _refused(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is refused: {reason}",
        "a file of weights, without code",
        "get the file from its authors again; if it is what they published, save its tensors alone with torch.save",
    )
