"""The tensors of a file of weights by name, whichever way PyTorch wrote them; nothing in it is executed.

Read are safetensors, `torch.save` in both its formats, and TorchScript archives, of which the tensors are taken and
the program is left alone.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from v2l.errors import UserError, few
from v2l.io.file_kinds import require_weights
from v2l.io.pickles import BROKEN, read_checkpoint, require_own_values, unpicklable
from v2l.memory_errors import lacks_memory

REMEDY = "name the file as its authors published it, or get it again"
EXPECTED = "a file of PyTorch weights (.pt, .pth, .bin) or .safetensors"
PARALLEL = "module."  # what data-parallel training puts before every name
NUMBERS = ("position_ids", "token_type_ids")  # which old files hold beside the weights


def read_state_dict(path: Path, key: str) -> dict[str, Tensor]:
    """Name -> tensor on the CPU, of the file that `key` (as messages show it) names.

    A dict that holds one state dict (`state_dict`, `model`) counts as that one, and the prefix `module.` goes where
    every name has it. Raises UserError, in one line, for anything that is not one network's tensors.
    """
    require_weights(path, key, REMEDY)
    try:
        content = _content(path)
    except UserError as error:
        raise UserError(f"{key}: {error.problem}", error.expected, error.remedy) from None
    state = _only_state(content, path, key)
    if state and all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    if broken := [name for name, tensor in state.items() if not _is_usable(tensor)]:
        raise UserError(
            f"{key}: {path} has values that are not finite, or tensors that are not plain numbers: "
            f"{few(sorted(broken))}",
            "dense tensors of finite numbers",
            REMEDY,
        )
    return state


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What keeps the tensors of a file from being those of a network, for a message; "" if nothing does.

    Counters of batch normalisation decide nothing and may be missing, as in files of old versions of PyTorch.
    """
    missing = [key for key in expected if key not in found and not key.endswith("num_batches_tracked")]
    surplus = [key for key in found if key not in expected]
    shaped = [
        f"{key}: {dimensions(found[key].shape)} in place of {dimensions(tensor.shape)}"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    kinds = {"missing": missing, "not of this network": surplus, "of another shape": shaped}
    return "; ".join(f"{kind}: {few(names)}" for kind, names in kinds.items() if names)


def unused_layers(model: nn.Module, unexpected: Iterable[str]) -> list[str]:
    """Those `unexpected` weights of a file that lie in parts which `model` has: layers of a deeper one, say.

    Heads for other tasks and tables of position numbers are none.
    """
    parts, found = {name for name, _ in model.named_children()}, []
    for key in sorted(unexpected):
        names = key.split(".")
        inside = names[0] in parts or (len(names) > 1 and names[1] in parts)
        if inside and "pooler" not in names and names[-1] not in NUMBERS:
            found.append(key)
    return found


def dimensions(shape: Iterable[int]) -> str:
    """A tensor's shape in a message: 3 x 4."""
    return " x ".join(map(str, shape)) or "a number"


def _content(path: Path) -> Any:
    if _is_safetensors(path):
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            if lacks_memory(error, path):
                raise
            raise _refused(path, f"its safetensors data are cut off or damaged ({_line(error)})") from None
    if _is_program(path):
        try:
            return read_torchscript(path)
        except (*BROKEN, RecursionError, zipfile.BadZipFile) as error:
            if lacks_memory(error, path):
                raise
            raise _refused(path, unpicklable(error)) from None
    return read_checkpoint(path)


def _only_state(content: Any, path: Path, key: str) -> dict[str, Tensor]:
    if is_state(content):
        return dict(content)
    states = {str(name): value for name, value in content.items() if is_state(value)}
    if len(states) == 1:
        return dict(*states.values())
    found = f"{len(states)} sets of weights ({few(list(states))})" if states else "no weights"
    raise UserError(
        f"{key}: {path} has {found}; its entries: {few(list(map(str, content))) or 'none'}",
        "one network's weights by name, or one dict of them (`state_dict`, `model`)",
        "save the one that is meant in a file of its own" if states else REMEDY,
    )


def is_state(value: object) -> bool:
    """Whether `value` is a dict of tensors by name, and no empty one."""
    return isinstance(value, dict) and bool(value) and all(_is_entry(*item) for item in value.items())


def _is_entry(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _is_usable(tensor: Tensor) -> bool:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
        return False
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _is_safetensors(path: Path) -> bool:
    """By its content: a length of 8 bytes and a JSON header, whatever the file's name; or by its name."""
    with open(path, "rb") as file:
        head = file.read(9)
    return path.suffix == ".safetensors" or head[8:] == b"{"


def _is_program(path: Path) -> bool:
    """Whether a zip is a TorchScript archive: its weights belong to classes of its own program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        records = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(records) != 1:
            return False
        root = records[0].partition("/")[0]
        return f"{root}/constants.pkl" in names and any(name.startswith(f"{root}/code/") for name in names)


class ScriptObject:
    """Takes the place of a module of a TorchScript program: keeps what was stored in it and can do nothing."""

    def __setstate__(self, state: object) -> None:
        self.held = state if isinstance(state, dict) else {}


class Stored(NamedTuple):
    """The values of a tensor's storage, flat."""

    values: Tensor


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a TorchScript archive by their dotted names; its program is not even read."""
    with zipfile.ZipFile(path) as archive:
        record = next(name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
        if archive.getinfo(record).compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError("its record is compressed, which PyTorch never does")
        with archive.open(record) as file:
            root = _ScriptUnpickler(file, archive, record.removesuffix(".pkl")).load()
    if not isinstance(root, ScriptObject):
        raise pickle.UnpicklingError("its root is no module")
    return dict(_named_tensors(root, ""))


def _named_tensors(module: ScriptObject, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in getattr(module, "held", {}).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, ScriptObject):
            yield from _named_tensors(value, f"{prefix}{name}.")


class _ScriptUnpickler(pickle.Unpickler):
    """Knows tensors, their storages and lists; modules are kept as `ScriptObject`; refuses every other name."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str):
        super().__init__(file)
        self._archive, self._folder = archive, folder
        self._stored: dict[str, Stored] = {}

    def find_class(self, module: str, name: str) -> Callable | type | torch.dtype:
        if module == "__torch__" or module.startswith("__torch__."):
            return ScriptObject
        if module == "torch.jit._pickle":
            return {"restore_type_tag": _first, "build_tensor_from_id": _nothing}.get(name, list)
        if module == "torch" and name.endswith("Storage"):
            return _dtype_of(name)
        known: dict[tuple[str, str], Callable] = {
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch._utils", "_rebuild_parameter"): _first,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not run")
        return known[module, name]

    def persistent_load(self, saved: Any) -> Stored:
        _, dtype, number, *_ = saved
        if number not in self._stored:
            member = self._archive.getinfo(f"{self._folder}/{number}")
            if member.compress_type != zipfile.ZIP_STORED:
                raise pickle.UnpicklingError("its tensors are compressed, which PyTorch never does")
            values = bytearray(self._archive.read(member))
            empty = torch.empty(0, dtype=dtype)
            self._stored[number] = Stored(torch.frombuffer(values, dtype=dtype) if values else empty)
        return self._stored[number]


def _dtype_of(name: str) -> torch.dtype:
    return getattr(torch, name).dtype


def _first(value: Any, *_: Any) -> Any:
    return value


def _nothing(*_: Any) -> None:
    return None


def _rebuilt(stored: Stored, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Tensor:
    """Raises RuntimeError where the tensor would reach beyond its storage, UnpicklingError if it has more values."""
    tensor = stored.values.as_strided(shape, strides, offset)
    require_own_values(tensor)
    return tensor


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _refused(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is refused: {reason}", EXPECTED, REMEDY)
