"""The YAML configuration of a taming-transformers VQ-GAN (Esser et al. 2021) as a `Network`.

Every key of the network is read; a value that the checkpoint's network would need and ours does not have is refused by
name. What only matters for training it (losses, monitor, data) is left aside.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from v2l.configuration.entry import Entry
from v2l.errors import UserError
from v2l.io.yaml_files import read_yaml


class NetworkConfig(Entry):
    """`model.params.ddconfig`: what its Encoder and Decoder are built from."""

    double_z: Literal[False]  # left out it is true there: the encoder of a variational model
    z_channels: int = Field(ge=1)
    resolution: int = Field(ge=16)
    in_channels: Literal[3]
    out_ch: Literal[3]
    ch: int = Field(ge=8)
    ch_mult: list[int] = Field(min_length=1)
    num_res_blocks: int = Field(ge=1)
    attn_resolutions: list[int]
    dropout: float = Field(0.0, ge=0, le=0)
    resamp_with_conv: Literal[True] = True
    give_pre_end: Literal[False] = False

    @model_validator(mode="after")
    def _resolution_halves(self) -> "NetworkConfig":
        if self.resolution % 2 ** (len(self.ch_mult) - 1):
            raise ValueError(f"resolution {self.resolution} cannot be halved {len(self.ch_mult) - 1} times")
        return self


class ModelParams(Entry):
    """`model.params`."""

    ddconfig: NetworkConfig
    embed_dim: int = Field(ge=1)
    n_embed: int = Field(ge=2)
    remap: None = None
    sane_index_shape: Any = None
    lossconfig: Any = None
    monitor: Any = None
    image_key: Any = None
    ckpt_path: Any = None
    ignore_keys: Any = None
    colorize_nlabels: None = None


class Model(Entry):
    """`model`. Its Gumbel variants quantize otherwise."""

    target: Literal["taming.models.vqgan.VQModel"]
    params: ModelParams
    base_learning_rate: Any = None


def taming_network(path: Path) -> dict[str, Any]:
    """Values of `Network` for the checkpoint that the YAML file `path` belongs to; images are resized directly.

    Raises UserError that names every key that is missing, unknown or set to what our network cannot do.
    """
    try:
        content = read_yaml(path)
    except UserError as error:
        raise _unusable(path, [error.problem]) from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise _unusable(path, ["`model`: missing"])
    try:
        params = Model.model_validate(content["model"]).params
    except ValidationError as error:
        items = [(".".join(["model", *map(str, item["loc"])]), item) for item in error.errors()]
        raise _unusable(path, [f"`{key}`: {item['msg']}, found {item['input']!r:.80}" for key, item in items]) from None
    network = params.ddconfig
    return {
        "image_size": network.resolution,
        "resize_via": None,
        "channels": network.ch,
        "channel_multipliers": network.ch_mult,
        "residual_blocks": network.num_res_blocks,
        "latent_channels": network.z_channels,
        "attention_levels": [
            level for level in range(len(network.ch_mult)) if network.resolution // 2**level in network.attn_resolutions
        ],
        "learned_codebook_size": params.n_embed,
        "learned_codebook_channels": params.embed_dim,
    }


def _unusable(path: Path, problems: list[str]) -> UserError:
    return UserError(
        f"{path} describes no VQ-GAN that can be imported:\n  " + "\n  ".join(problems) + "\n",
        "the model.yaml of a taming.models.vqgan.VQModel",
        "name the YAML file that was published with the checkpoint in `checkpoint_config` (docs/import.md)",
    )
