"""Which open_clip architecture an entry means, and how its images are normalised."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import open_clip
import torch

from v2l.configuration.model_entries import OpenClipEncoder
from v2l.encoders.image_text_encoder import existing_path
from v2l.errors import UserError

PARTS = {"embed_dim", "vision_cfg", "text_cfg"}
VOCABULARY = 49408
# Settings of `preprocess_cfg` that images are always prepared with; `mean` and `std` are the file's.
PREPARED = {"mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest"}


class Architecture(NamedTuple):
    """Name under which open_clip knows it, its config, and the `preprocess_cfg` of its file."""

    name: str
    config: dict[str, Any]
    preprocess: dict[str, Any]


def architecture_of(entry: OpenClipEncoder) -> Architecture:
    """The architecture that `entry.model` names, by name or as the path of a .json.

    Raises UserError for one that is not known, needs a hub, or contradicts another key of the entry.
    """
    model, preprocess = entry.model, dict[str, Any]()
    name = model
    if model.endswith(".json"):
        name, preprocess = _register(existing_path(model, "model"))
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
    if config.get("quick_gelu", entry.quick_gelu) != entry.quick_gelu:
        raise UserError(
            f"encoder key `quick_gelu` is {str(entry.quick_gelu).lower()}, but architecture {model} says "
            f"quick_gelu {str(config['quick_gelu']).lower()}",
            "one activation",
            f"set `quick_gelu: {str(config['quick_gelu']).lower()}`, or name the architecture with the other one",
        )
    if (entries := config["text_cfg"].get("vocab_size", VOCABULARY)) < VOCABULARY:
        raise UserError(
            f"encoder key `model`: {model} has a text vocabulary of {entries} entries",
            f"one for the {VOCABULARY} entries of CLIP's own tokenizer",
            "choose an architecture with it, such as ViT-L-14",
        )
    size = config["vision_cfg"].get("image_size", 224)
    if not isinstance(size, int):
        raise UserError(
            f"encoder key `model`: {model} takes images of {' x '.join(map(str, size))} px",
            "an architecture for square images",
            "choose another one, such as ViT-L-14",
        )
    return Architecture(name, config, preprocess)


def untrained(architecture: Architecture, entry: OpenClipEncoder, device: torch.device) -> Any:
    """The network with random weights: one of open_clip's classes of models, which have no types."""
    try:
        with quietly(logging.WARNING):  # that the weights, which come afterwards, are random
            return open_clip.create_model(
                architecture.name,
                device=device,
                precision="fp16" if entry.precision == "float16" else "fp32",
                force_quick_gelu=entry.quick_gelu,
                force_preprocess_cfg=architecture.preprocess,
                pretrained_text=False,
            )
    except (RuntimeError, AttributeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"encoder key `model`: open_clip cannot build {entry.model} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            "a model config of the installed open_clip",
            "mend the file, or name an architecture that open_clip knows",
        ) from None


@contextmanager
def quietly(level: int = logging.INFO) -> Iterator[None]:
    """open_clip tells its steps to the root logger, where the stage's own line would drown."""
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _register(path: Path) -> tuple[str, dict[str, Any]]:
    """Name under which open_clip now knows the config at `path`, and its `preprocess_cfg`.

    The file is one of open_clip's model_configs, or an `open_clip_config.json` that holds one as `model_cfg`. What is
    registered stays, so it is checked first.
    """
    try:
        whole = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        whole = None
    config = whole.get("model_cfg", whole) if isinstance(whole, dict) else None
    parts = [config[key] for key in ("vision_cfg", "text_cfg") if key in config] if isinstance(config, dict) else []
    if not isinstance(config, dict) or not set(config) >= PARTS or not all(isinstance(part, dict) for part in parts):
        raise UserError(
            f"encoder key `model`: {path} is not a model config",
            "JSON with embed_dim, vision_cfg and text_cfg, as in open_clip's own model_configs, or an "
            "open_clip_config.json with them in model_cfg",
            "mend the file or name another",
        )
    preprocess = whole.get("preprocess_cfg") or {}
    _require_preprocess(preprocess, path)
    with TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        plain.write_text(json.dumps(config))
        open_clip.add_model_config(plain)
    return path.stem, {key: preprocess[key] for key in ("mean", "std") if key in preprocess}


def _require_preprocess(preprocess: Any, path: Path) -> None:
    found = preprocess if isinstance(preprocess, dict) else {"preprocess_cfg": preprocess}
    wrong = [
        f"{key} {found[key]!r} in place of {value!r}"
        for key, value in PREPARED.items()
        if found.get(key, value) != value
    ]
    wrong += [
        f"{key} {found[key]!r} in place of three numbers"
        for key in ("mean", "std", "preprocess_cfg")
        if key in found and not _is_three_numbers(found[key])
    ]
    if wrong:
        raise UserError(
            f"encoder key `model`: preprocess_cfg of {path} asks for {', '.join(wrong)}",
            "images as CLIP prepares them, with a mean and a standard deviation of their own",
            "choose a model that was trained so",
        )


def _is_three_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(number, int | float) for number in value)
