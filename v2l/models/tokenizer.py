"""The vision tokenizer: images to ids of a language model's vocabulary and back (paper sections 3.2 and 3.3).

Shape suffixes: B images, L = h * w positions in row-major order, K global codes, V codes, D their width.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.config import Network
from v2l.io.storage import hash_tensor, read_tensors, tensor_facts, write_tensors
from v2l.models import quantizers
from v2l.models.blocks import codes_as_map
from v2l.models.decoder import Decoder
from v2l.models.encoder import Encoder


class LearnedCodebook(nn.Module):
    """A codebook that is trained with the network, drawn from U(-1/V, 1/V) (VQ-GAN)."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        nn.init.uniform_(self.embedding.weight, -1 / size, 1 / size)


class VisionTokenizer(nn.Module):
    """Encoder, quantizer and decoder of one variant; the state dict has the key names of the authors' checkpoints.

    `method` v2l: frozen codebook `local_VD` behind a trained linear projector, and cross-attention to the frozen codes
    of `global_VD`. v2l-local: the same without `global_VD` and cross-attention. vqgan: a learned codebook instead.
    """

    def __init__(
        self,
        name: str,
        method: str,
        network: Network,
        global_tokens: int,
        local_VD: Tensor | None = None,
        global_VD: Tensor | None = None,
    ):
        super().__init__()
        self.name, self.method, self.network, self.global_tokens = name, method, network, global_tokens
        self.has_global = method == "v2l"
        self.is_learned = method == "vqgan"
        if self.is_learned:
            width = network.learned_codebook_channels
            self.quantize = LearnedCodebook(network.learned_codebook_size, width)
        else:
            width = local_VD.shape[1]
            self.tok_embeddings = nn.Embedding.from_pretrained(local_VD.float(), freeze=True)
            self.codebook_projection = nn.Linear(width, width)
            nn.init.normal_(self.codebook_projection.weight, std=width**-0.5)
            self.register_buffer("first_equal_V", quantizers.first_equal_rows(local_VD), persistent=False)
        if self.has_global:
            self.tok_embeddings_global = nn.Embedding.from_pretrained(global_VD.float(), freeze=True)
        self.encoder = Encoder(network)
        self.quant_conv = nn.Conv2d(network.latent_channels, width, 1)
        self.post_quant_conv = nn.Conv2d(width, network.latent_channels, 1)
        self.decoder = Decoder(network, global_VD.shape[1] if self.has_global else None)
        self.to(memory_format=torch.channels_last)  # several times faster on CPUs

    def vectors(self, image_BCHW: Tensor) -> Tensor:
        """What is quantized: float32 vector_BLD of images in [-1, 1]; unit length unless the method is vqgan."""
        vector_BDHW = self.quant_conv(self.encoder(image_BCHW)).float()
        vector_BLD = vector_BDHW.flatten(2).transpose(1, 2)
        return vector_BLD if self.is_learned else F.normalize(vector_BLD, dim=2)

    def codes(self, ids: Tensor) -> Tensor:
        """Vectors (..., D) of local ids (...) as the decoder takes them: projected, unless the codebook is learned."""
        if self.is_learned:
            return self.quantize.embedding(ids)
        with torch.autocast(ids.device.type, enabled=False):
            return self.codebook_projection(self.tok_embeddings(ids))

    def codebook(self) -> Tensor:
        """Every local code as the decoder takes it, codebook_VD."""
        return self.codes(torch.arange(self.local_size, device=self.quant_conv.weight.device))

    @property
    def local_size(self) -> int:
        """Number of local codes."""
        return (self.quantize.embedding if self.is_learned else self.tok_embeddings).num_embeddings

    def nearest(self, vector_BLD: Tensor) -> Tensor:
        """Local ids_BL of vectors; of codes with the same vector the lowest."""
        with torch.no_grad(), torch.autocast(vector_BLD.device.type, enabled=False):
            ids = quantizers.nearest_codes(vector_BLD.flatten(0, 1), self.codebook()).view(vector_BLD.shape[:2])
        return ids if self.is_learned else self.first_equal_V[ids]

    @torch.no_grad()
    def encode(self, image_BCHW: Tensor) -> Tensor:
        """Local ids_BL (int64) of images in [-1, 1]."""
        return self.nearest(self.vectors(image_BCHW))

    def global_ids(self, feature_BD: Tensor) -> Tensor:
        """The `global_tokens` codes nearest to each image feature, nearest first: ids_BK (released)."""
        return quantizers.nearest_k_codes(feature_BD, self.tok_embeddings_global.weight, self.global_tokens)

    def decode(self, local_ids_BL: Tensor, global_ids_BK: Tensor | None) -> Tensor:
        """Float32 image_BCHW in about [-1, 1]. A method without global path leaves `global_ids_BK` aside."""
        return self._decode(self.codes(local_ids_BL), global_ids_BK)

    def forward(self, image_BCHW: Tensor, global_ids_BK: Tensor | None, codebook_weight: float = 0.33):
        """Training pass: (reconstruction_BCHW, quantizer loss, local ids_BL); gradients pass the quantizer straight."""
        vector_BLD = self.vectors(image_BCHW)
        ids_BL = self.nearest(vector_BLD)
        code_BLD = self.codes(ids_BL)
        loss = quantizers.quantizer_loss(vector_BLD, code_BLD, codebook_weight)
        image_BCHW = self._decode(quantizers.straight_through(vector_BLD, code_BLD), global_ids_BK)
        return image_BCHW, loss, ids_BL

    @torch.no_grad()
    def match_moments(self, image_BCHW: Tensor) -> list[nn.Parameter]:
        """Give the local codes the mean and covariance of these images' vectors; returns the parameters it set.

        A frozen codebook is matched through its projector. A learned one is mapped itself, so that its codes stand
        where the encoder's outputs are; else one code wins every position from the first step on and stays alone.
        """
        vector_ND = self.vectors(image_BCHW).flatten(0, 1)
        table = self.quantize.embedding.weight if self.is_learned else self.tok_embeddings.weight
        weight_DD, bias_D = quantizers.matching_map(table, vector_ND)
        if self.is_learned:
            table.copy_(F.linear(table, weight_DD, bias_D))
            return [table]
        self.codebook_projection.weight.copy_(weight_DD)
        self.codebook_projection.bias.copy_(bias_D)
        return list(self.codebook_projection.parameters())

    @property
    def facts(self) -> dict:
        """What every later stage must know of this tokenizer: geometry, and which codebooks its ids point into."""
        local = self.quantize.embedding if self.is_learned else self.tok_embeddings
        shared = self.tok_embeddings_global if self.has_global else None
        return {
            "name": self.name,
            "method": self.method,
            "network": self.network.model_dump(mode="json"),
            "global_tokens": self.global_tokens,
            "codebooks": {
                "local": hash_tensor(local.weight),
                "global": hash_tensor(shared.weight) if shared else None,
                "local_size": local.num_embeddings,
                "global_size": shared.num_embeddings if shared else None,
            },
        }

    def save(self, path: Path, record: dict) -> None:
        """Write all weights, frozen codebooks included, with `facts` and the provenance `record`."""
        write_tensors(path, self.state_dict(), record, {"tokenizer": self.facts})

    def _decode(self, code_BLD: Tensor, global_ids_BK: Tensor | None) -> Tensor:
        context_BKD = None
        if self.has_global:
            if global_ids_BK is None:
                raise ValueError(f"tokenizer {self.name} decodes with global ids")
            context_BKD = self.tok_embeddings_global(global_ids_BK)
        latent_BCHW = self.post_quant_conv(codes_as_map(code_BLD, self.network.grid))
        return self.decoder(latent_BCHW, context_BKD).float()


def tokenizer_facts(path: Path) -> dict:
    """`VisionTokenizer.facts` of a weights file, without reading its tensors."""
    return tensor_facts(path)["tokenizer"]


def load_tokenizer(path: Path, device: torch.device | str = "cpu") -> VisionTokenizer:
    """The tokenizer that `VisionTokenizer.save` wrote, in evaluation mode and without gradients."""
    tensors, metadata = read_tensors(path)
    facts = metadata["tokenizer"]
    tokenizer = VisionTokenizer(
        facts["name"],
        facts["method"],
        Network.model_validate(facts["network"]),
        facts["global_tokens"],
        tensors.get("tok_embeddings.weight"),
        tensors.get("tok_embeddings_global.weight"),
    )
    tokenizer.load_state_dict(tensors)
    return tokenizer.eval().requires_grad_(False).to(device)
