"""VQ-GAN (Esser et al. 2021): a codebook that is learned with the network, no words and no global path."""

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.configuration.tokenizer_entries import VQGANEntry
from v2l.configuration.tokenizer_training import Loss, Network, TrainTokenizer
from v2l.models import quantizers
from v2l.models.convolutional import ConvolutionalTokenizer
from v2l.models.vision_tokenizer import Batch, Codes, TrainingPass
from v2l.precision import computed_in


class LearnedCodebook(nn.Module):
    """A codebook that is trained with the network, drawn from U(-1/V, 1/V) (VQ-GAN)."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        nn.init.uniform_(self.embedding.weight, -1 / size, 1 / size)


class VQGANTokenizer(ConvolutionalTokenizer):
    """`network.learned_codebook_size` codes of `network.learned_codebook_channels`; key names as in its checkpoints."""

    shown_as = "ordinary token"

    def __init__(self, name: str, network: Network):
        super().__init__(name, "vqgan", network, network.learned_codebook_channels)
        self.quantize = LearnedCodebook(network.learned_codebook_size, network.learned_codebook_channels)

    @classmethod
    def create(cls, name: str, entry: VQGANEntry, settings: TrainTokenizer, codebook: dict[str, Tensor]) -> Self:
        return cls(name, settings.network)

    @classmethod
    def rebuild(cls, description: dict, tensors: dict[str, Tensor]) -> Self:
        return cls(description["name"], Network.model_validate(description["build"]["network"]))

    def forward(self, batch: Batch, loss: Loss) -> TrainingPass:
        vector_BLD = self.vectors(batch.image_BCHW)
        ids_BL = self.nearest(vector_BLD)
        code_BLD = self.quantize.embedding(ids_BL)
        quantizer = quantizers.quantizer_loss(vector_BLD, code_BLD, loss.codebook, loss.commitment)
        image_BCHW = self.decode_vectors(quantizers.estimated(vector_BLD, code_BLD, loss.estimator))
        return TrainingPass(image_BCHW, {"quantizer": quantizer}, ids_BL)

    def reads(self, loss: Loss) -> frozenset[str]:
        return frozenset()

    def nearest(self, vector_BLD: Tensor) -> Tensor:
        """Local ids_BL of vectors."""
        with computed_in("float32"):
            ids = quantizers.nearest_codes(vector_BLD.flatten(0, 1), self.quantize.embedding.weight)
        return ids.view(vector_BLD.shape[:2])

    @torch.no_grad()
    def encode(self, image_BCHW: Tensor, feature_BD: Tensor | None = None) -> Codes:
        vector_BLD = self.vectors(image_BCHW)
        return Codes(self.nearest(vector_BLD), None).of_finite(vector_BLD)

    def decode(self, local_ids_BL: Tensor, global_ids_BK: Tensor | None, visible_BL: Tensor | None = None) -> Tensor:
        return self.decode_vectors(quantizers.hide(self.quantize.embedding(local_ids_BL), visible_BL))

    @torch.no_grad()
    def match_moments(
        self, image_BCHW: Tensor, gather: Callable[[Tensor], Tensor] = Tensor.clone
    ) -> list[nn.Parameter]:
        """Maps the codes themselves: else one wins every position from the first step on and stays alone."""
        table = self.quantize.embedding.weight
        weight_DD, bias_D = quantizers.matching_map(table, gather(self.vectors(image_BCHW).flatten(0, 1)))
        table.copy_(F.linear(table, weight_DD, bias_D))
        return list(self.quantize.embedding.parameters())

    @property
    def codebooks(self) -> tuple[Tensor, Tensor | None]:
        return self.quantize.embedding.weight, None

    @property
    def build(self) -> dict:
        return {"network": self.network.model_dump(mode="json")}
