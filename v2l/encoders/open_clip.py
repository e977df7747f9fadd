"""open_clip models from local files (the paper: OpenAI's ViT-L/14)."""

import json
import logging
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

from v2l.configuration.model_entries import OpenClipEncoder
from v2l.encoders.image_text_encoder import ImageTextEncoder, existing_path
from v2l.errors import UserError
from v2l.precision import computed_in


class OpenClip(ImageTextEncoder):
    """A CLIP model with its own pixel normalisation and the tokenizer that open_clip carries along."""

    def __init__(self, entry: OpenClipEncoder, device: torch.device):
        name = _architecture(entry.model)
        self.device, self.precision = device, entry.precision
        with _quietly():
            self.model = _load(name, entry, device).eval().requires_grad_(False)
            self.tokenizer = open_clip.get_tokenizer(name)
        preprocess = open_clip.get_model_preprocess_cfg(self.model)
        size = preprocess["size"]
        self.image_size = size if isinstance(size, int) else size[0]
        self.mean_C11, self.std_C11 = (
            torch.tensor(preprocess[key], device=device)[:, None, None] for key in ("mean", "std")
        )
        self.dimension = self.encode_text(["a"]).shape[1]

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """See the base class; the context ends at the batch's last end token, which changes no vector and saves most
        of the work, because a causal mask keeps later positions out of the pooled one."""
        ids_NT = self.tokenizer(texts).to(self.device)
        if not _pools_causally(self.model):
            with computed_in(self.precision):
                feature_ND = self.model.encode_text(ids_NT)
            return normalize(feature_ND.float(), dim=1)
        length = int(ids_NT.argmax(dim=1).max()) + 1
        shortened = {
            "positional_embedding": self.model.positional_embedding[:length],
            "attn_mask": self.model.attn_mask[:length, :length],
        }
        with computed_in(self.precision):
            feature_ND = functional_call(self.model, shortened, (None, ids_NT[:, :length]))[1]
        return normalize(feature_ND.float(), dim=1)

    def token_counts(self, texts: list[str]) -> list[int]:
        return [len(self.tokenizer.encode(text)) for text in texts]

    @torch.no_grad()
    def encode_squares(self, pixels_NHWC: np.ndarray) -> Tensor:
        image_NCHW = torch.from_numpy(pixels_NHWC).to(self.device).permute(0, 3, 1, 2).float() / 255
        with computed_in(self.precision):
            feature_ND = self.model.encode_image((image_NCHW - self.mean_C11) / self.std_C11)
        return normalize(feature_ND.float(), dim=1)


def _pools_causally(model: nn.Module) -> bool:
    """Whether the text feature is read at the end token (the largest id) behind a causal mask."""
    return isinstance(model, open_clip.CLIP) and model.text_pool_type == "argmax" and model.attn_mask is not None


def _architecture(model: str) -> str:
    """The open_clip name of `model`, a known name or the path of a config .json, which is registered."""
    name = _register(existing_path(model, "model")) if model.endswith(".json") else model
    config = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise UserError(
            f"encoder key `model`: open_clip knows no architecture {model!r}",
            "a name such as ViT-L-14, or the path of a .json",
            "see open_clip.list_models()",
        )
    if "siglip" in name.lower() or any(key.startswith("hf_") for key in config["text_cfg"]):
        raise UserError(
            f"encoder key `model`: {model} needs a text model or tokenizer from a hub",
            "an architecture with CLIP's own tokenizer, so that the run stays offline",
            "choose another one, such as ViT-L-14",
        )
    return name


def _register(path: Path) -> str:
    """The name under which open_clip now knows the config at `path`. It keeps what it once took, so check first."""
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise UserError(
            f"encoder key `model`: {path} is not a model config",
            "JSON with embed_dim, vision_cfg and text_cfg, as in open_clip's own model_configs",
            "mend the file or name another",
        )
    open_clip.add_model_config(path)
    return path.stem


def _load(name: str, entry: OpenClipEncoder, device: torch.device) -> Any:
    """One of open_clip's classes of models, which have no types."""
    path, quick_gelu = existing_path(entry.weights, "weights"), entry.quick_gelu
    try:
        return open_clip.create_model(
            name,
            pretrained=str(path),
            device=device,
            force_quick_gelu=quick_gelu,
            weights_only=not _is_torchscript(path),
        )
    except (
        RuntimeError,
        AttributeError,
        KeyError,
        TypeError,
        pickle.UnpicklingError,
        EOFError,
        SafetensorError,
    ) as error:
        raise UserError(
            f"encoder key `weights`: {path} does not fit open_clip model {name} ({str(error)[:300]})".replace(
                "\n", " "
            ),
            f"a checkpoint of {name}",
            "correct `weights` or `model` in `encoders`, or fetch the file again",
        ) from None


@contextmanager
def _quietly() -> Iterator[None]:
    """open_clip tells its steps to the root logger, where the stage's own line would drown."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _is_torchscript(path: Path) -> bool:
    """OpenAI's own files are TorchScript archives, which torch refuses to read as plain weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(Path(name).name == "constants.pkl" for name in archive.namelist())
