"""The convolutional skeleton that V2L, VQ-GAN and SPAE share: encoder, 1x1 convolutions, decoder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.configuration.tokenizer_training import Network
from v2l.data.geometry import network_geometry
from v2l.models.blocks import ResidualBlock, codes_as_map
from v2l.models.decoder import ConvolutionalDecoder
from v2l.models.encoder import ConvolutionalEncoder
from v2l.models.quantizers import RowsOfProjection, first_equal_rows, matching_map, nearest_codes
from v2l.models.vision_tokenizer import VisionTokenizer
from v2l.precision import computed_in

# Keys of the frozen tables in the state, as in the authors' checkpoints.
LOCAL_TABLE, GLOBAL_TABLE = "tok_embeddings.weight", "tok_embeddings_global.weight"


class ConvolutionalTokenizer(VisionTokenizer):
    """Encoder and decoder of `network` around codes of width `width`; key names are those of VQ-GAN checkpoints.

    Weights and activations lie channels last on every device.
    """

    def __init__(self, name: str, method: str, network: Network, width: int, context_width: int | None = None):
        super().__init__(name, method, network_geometry(network))
        self.network = network
        self.encoder = ConvolutionalEncoder(network)
        self.quant_conv = nn.Conv2d(network.latent_channels, width, 1)
        self.post_quant_conv = nn.Conv2d(width, network.latent_channels, 1)
        self.decoder = ConvolutionalDecoder(network, context_width)
        self.to(memory_format=torch.channels_last)

    def vectors(self, image_BCHW: Tensor) -> Tensor:
        """What is quantized: float32 vector_BLD of images in [-1, 1]."""
        return self.quant_conv(self.encoder(image_BCHW)).float().flatten(2).transpose(1, 2)

    def decode_vectors(self, code_BLD: Tensor, context_BKD: Tensor | None = None) -> Tensor:
        """Float32 image_BCHW in about [-1, 1] of a map of code vectors."""
        latent_BCHW = self.post_quant_conv(codes_as_map(code_BLD, self.geometry.grid))
        return self.decoder(latent_BCHW, context_BKD).float()

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.conv_out.weight

    @property
    def compiled_parts(self) -> list[nn.Module]:
        return [part for part in self.modules() if isinstance(part, ResidualBlock)]


class ProjectedCodebook(ConvolutionalTokenizer):
    """A frozen codebook behind a trained linear projector; base of tokenizers that write in the vocabulary's subwords.

    State-dict keys `tok_embeddings` and `codebook_projection` are those of the authors' checkpoints.
    """

    supplied_parts = ("tok_embeddings.",)
    tok_embeddings: nn.Embedding
    codebook_projection: nn.Linear
    first_equal_V: Tensor
    _projected_VD: Tensor | None = None  # while `codes_fixed` lasts

    def add_codebook(self, local_VD: Tensor) -> None:
        """Create the frozen table and the projector, drawn from N(0, d^-1/2) (released)."""
        width = local_VD.shape[1]
        self.tok_embeddings = nn.Embedding.from_pretrained(local_VD.float(), freeze=True)
        self.codebook_projection = nn.Linear(width, width)
        nn.init.normal_(self.codebook_projection.weight, std=width**-0.5)
        self.register_buffer("first_equal_V", first_equal_rows(local_VD), persistent=False)

    def vectors(self, image_BCHW: Tensor) -> Tensor:
        """What is quantized: unit vectors vector_BLD of images in [-1, 1] (released)."""
        return F.normalize(super().vectors(image_BCHW), dim=2)

    def codes(self, ids: Tensor | None = None) -> Tensor:
        """Projected vectors (..., D) of local ids (...), or of all codes (VD)."""
        projector, table_VD = self.codebook_projection, self.tok_embeddings.weight
        with computed_in("float32"):
            if self._projected_VD is not None:
                return RowsOfProjection.apply(projector.weight, projector.bias, self._projected_VD, table_VD, ids)
            return projector(table_VD if ids is None else self.tok_embeddings(ids))

    @contextmanager
    def codes_fixed(self) -> Iterator[None]:
        with torch.no_grad():
            self._projected_VD = self.codes()
        try:
            yield
        finally:
            self._projected_VD = None

    def nearest(self, vector_BLD: Tensor, codebook_VD: Tensor | None = None) -> Tensor:
        """Local ids_BL of vectors; of codes with the same embedding the lowest. `codebook_VD`: all codes projected."""
        with torch.no_grad():
            if codebook_VD is None:
                codebook_VD = self._projected_VD if self._projected_VD is not None else self.codes()
            ids = nearest_codes(vector_BLD.flatten(0, 1), codebook_VD).view(vector_BLD.shape[:2])
        return self.first_equal_V[ids]

    @torch.no_grad()
    def match_moments(
        self, image_BCHW: Tensor, gather: Callable[[Tensor], Tensor] = Tensor.clone
    ) -> list[nn.Parameter]:
        weight_DD, bias_D = matching_map(self.tok_embeddings.weight, gather(self.vectors(image_BCHW).flatten(0, 1)))
        self.codebook_projection.weight.copy_(weight_DD)
        self.codebook_projection.bias.copy_(bias_D)
        return self.projector_parameters

    @property
    def projector_parameters(self) -> list[nn.Parameter]:
        return list(self.codebook_projection.parameters())
