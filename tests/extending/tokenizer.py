"""A tokenizer: a token is a patch's mean colour, as the nearest colour of a learned palette."""

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS, TokenizerEntry
from v2l.configuration.tokenizer_training import Loss, TrainTokenizer
from v2l.data.geometry import Geometry
from v2l.errors import UserError
from v2l.models.blocks import codes_as_map
from v2l.models.quantizers import hide, nearest_codes
from v2l.models.vision_tokenizer import Batch, Codes, TrainingPass, VisionTokenizer


class PaletteEntry(TokenizerEntry):
    """Colours are no words, so no language model reads them for classification."""

    implementation: ClassVar[str] = f"{__name__}:PaletteTokenizer"
    labels: ClassVar[dict[str, str]] = {"palette": "colour palette"}
    wordless: ClassVar[frozenset[str]] = frozenset({"palette"})

    method: Literal["palette"]
    patch_size: int = Field(8, ge=1, description="Pixels of a token's side; a divisor of network.image_size.")
    colours: int = Field(64, ge=2, description="Size of the palette.")


class PaletteTokenizer(VisionTokenizer):
    """The decoder paints each patch in its colour and smooths the edges with one convolution."""

    shown_as = "ordinary token"

    def __init__(self, name: str, geometry: Geometry, patch_size: int, colours: int):
        super().__init__(name, "palette", geometry)
        self.patch_size = patch_size
        self.palette = nn.Embedding(colours, 3)
        nn.init.uniform_(self.palette.weight, -1, 1)
        self.smoothing = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate")
        nn.init.dirac_(self.smoothing.weight)

    @classmethod
    def create(cls, name: str, entry: PaletteEntry, settings: TrainTokenizer, codebook: dict[str, Tensor]) -> Self:
        size, via = settings.network.image_size, settings.network.resize_via
        if size % entry.patch_size:
            problem = f"`tokenizers.{name}.patch_size` is {entry.patch_size}, images have {size} pixels a side"
            raise UserError(problem, f"a divisor of {size}", "choose another patch_size")
        geometry = Geometry(image_size=size, resize_via=via, grid=size // entry.patch_size)
        return cls(name, geometry, entry.patch_size, entry.colours)

    @classmethod
    def rebuild(cls, description: dict, tensors: dict[str, Tensor]) -> Self:
        return cls(description["name"], Geometry.model_validate(description["geometry"]), **description["build"])

    def forward(self, batch: Batch, loss: Loss) -> TrainingPass:
        ids_BL, _ = self.encode(batch.image_BCHW)
        return TrainingPass(self.decode(ids_BL, None), {}, ids_BL)

    @torch.no_grad()
    def encode(self, image_BCHW: Tensor, feature_BD: Tensor | None = None) -> Codes:
        colour_BLC = F.avg_pool2d(image_BCHW, self.patch_size).flatten(2).transpose(1, 2)
        ids_N = nearest_codes(colour_BLC.flatten(0, 1), self.palette.weight)
        return Codes(ids_N.view(colour_BLC.shape[:2]), None)

    def decode(self, local_ids_BL: Tensor, global_ids_BK: Tensor | None, visible_BL: Tensor | None = None) -> Tensor:
        colour_BLC = hide(self.palette(local_ids_BL), visible_BL)
        patches_BCHW = F.interpolate(codes_as_map(colour_BLC, self.geometry.grid), scale_factor=self.patch_size)
        return self.smoothing(patches_BCHW).float()

    @property
    def last_layer(self) -> Tensor:
        return self.smoothing.weight

    @property
    def compiled_parts(self) -> list[nn.Module]:
        return []

    @property
    def codebooks(self) -> tuple[Tensor, Tensor | None]:
        return self.palette.weight, None

    @property
    def build(self) -> dict:
        return {"patch_size": self.patch_size, "colours": len(self.palette.weight)}


TOKENIZER_METHODS.add("palette", PaletteEntry)
