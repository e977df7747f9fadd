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
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import normalize

from v2l.configuration.model_entries import OpenClipEncoder
from v2l.encoders.clip_tokenizer import ClipTokenizer
from v2l.encoders.image_text_encoder import ImageTextEncoder, existing_path
from v2l.encoders.imagenet_templates import PromptTemplate
from v2l.encoders.shared_beginnings import SharedBeginnings, pools_causally
from v2l.errors import UserError
from v2l.io.overlap import sent
from v2l.precision import computed_in


class OpenClip(ImageTextEncoder):
    """A CLIP model with its own pixel normalisation and the tokenizer that open_clip carries along.

    float16 is the released code's: weights and activations in half, layer norms in float32. bfloat16 is autocast: its
    few bits would not do for what the layers add up.
    """

    def __init__(self, entry: OpenClipEncoder, device: torch.device):
        name = _architecture(entry.model)
        self.device = device
        self._halved = entry.precision == "float16"
        self._scope = "float32" if self._halved else entry.precision
        with _quietly():
            self.model = _load(name, entry, device).eval().requires_grad_(False)
            self.tokenizer = open_clip.get_tokenizer(name)
        self._ids = ClipTokenizer(self.tokenizer) if ClipTokenizer.reads_as(self.tokenizer) else None
        self._shared = SharedBeginnings(self.model) if self._ids and SharedBeginnings.fits(self.model) else None
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
        if not (self._ids and pools_causally(self.model)):
            with computed_in(self._scope):
                feature_ND = self.model.encode_text(self.tokenizer(texts).to(self.device))
            return normalize(feature_ND.float(), dim=1)
        ids_NT = self._ids.padded(texts)
        length = ids_NT.shape[1]
        shortened = {
            "positional_embedding": self.model.positional_embedding[:length],
            "attn_mask": self.model.attn_mask[:length, :length],
        }
        with computed_in(self._scope):
            feature_ND = functional_call(self.model, shortened, (None, ids_NT.to(self.device)))[1]
        return normalize(feature_ND.float(), dim=1)

    @torch.no_grad()
    def mean_over_templates(self, templates: list[PromptTemplate], texts: list[str]) -> Tensor:
        """See the base class; a template's words before the text are computed once for all texts, and texts are
        tokenised once for each ending. Differs from the sum over `encode_text` by rounding alone."""
        if not (self._ids and self._shared):
            return super().mean_over_templates(templates, texts)
        tails = {ending: self._ids.tails([text + ending for text in texts]) for _, ending in templates}
        apart = [row for row in range(len(texts)) if any(tail[row] is None for tail in tails.values())]
        if apart:
            mean_BD = torch.empty(len(texts), self.dimension, device=self.device)
            mean_BD[apart] = super().mean_over_templates(templates, [texts[row] for row in apart])
            if alike := sorted(set(range(len(texts))) - set(apart)):
                mean_BD[alike] = self.mean_over_templates(templates, [texts[row] for row in alike])
            return mean_BD
        padded = {
            ending: [tensor.to(self.device) for tensor in self._ids.ended([ids for ids in tail if ids is not None])]
            for ending, tail in tails.items()
        }
        sum_BD = torch.zeros(len(texts), self.dimension, device=self.device)
        for template in templates:
            if not self._ids.is_plain(template.beginning):
                sum_BD += self.encode_text([template(text) for text in texts])
                continue
            beginning = self._ids.start, *self._ids.encode([template.beginning])[0]
            with computed_in(self._scope):
                feature_BD = self._shared.encode(beginning, *padded[template.ending])
            sum_BD += normalize(feature_BD.float(), dim=1)
        return sum_BD / len(templates)

    def token_counts(self, texts: list[str]) -> list[int]:
        if self._ids:
            return [len(ids) for ids in self._ids.encode(texts)]
        return [len(self.tokenizer.encode(text)) for text in texts]

    @torch.no_grad()
    def encode_squares(self, pixels_NHWC: np.ndarray) -> Tensor:
        image_NCHW = sent(torch.from_numpy(pixels_NHWC), self.device).permute(0, 3, 1, 2).float() / 255
        image_NCHW = (image_NCHW - self.mean_C11) / self.std_C11
        with computed_in(self._scope):
            feature_ND = self.model.encode_image(image_NCHW.half() if self._halved else image_NCHW)
        return normalize(feature_ND.float(), dim=1)


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
            precision="fp16" if entry.precision == "float16" else "fp32",
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
