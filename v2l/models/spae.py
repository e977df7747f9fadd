"""SPAE (Yu et al. 2023, arXiv 2306.17842) in our reading: no code was ever released, its equations were not found.

Shape suffixes as in `v2l.models.vision_tokenizer`, and P positions of a layer, N ids of all layers together.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.configuration.tokenizer_entries import NO_NETWORK, SPAEEntry
from v2l.configuration.tokenizer_training import Loss, Network, TrainTokenizer
from v2l.configuration.variants import pyramid_problem
from v2l.errors import UserError
from v2l.models import quantizers
from v2l.models.convolutional import LOCAL_TABLE, ConvolutionalTokenizer, ProjectedCodebook
from v2l.models.vision_tokenizer import Batch, Codes, CodeWords, TrainingPass
from v2l.precision import computed_in


class Layer(NamedTuple):
    """A layer of the pyramid: its positions, their codes, what those are nearest to, and the mean code up to here."""

    position_P: Tensor
    ids_BP: Tensor
    target_BPD: Tensor
    mean_BPD: Tensor


class SPAETokenizer(ProjectedCodebook):
    """A pyramid of words of one frozen vocabulary: upper layers of few positions for meaning, the last for the image.

    z(x) is the encoder's vector at position x of the h x h map, its D channels with mean 0 and variance 1 / D over the
    batch; c_v is the image-text encoder's embedding of subword v, e_v = P c_v its projection. Both are ours, against
    codebook collapse: batch normalisation, as guidance draws all vectors the same way at first and unit vectors end in
    one point; and the trained projector P of V2L, matched to the vectors' moments by the map that moves e_v least.

    Dilated sub-sampling: layer l = 1..M of side s_l has the centres of s_l x s_l equal blocks of side b = h / s_l,
        X_l = {(b i + floor(b / 2), b j + floor(b / 2)) : 0 <= i, j < s_l},  s_1 <= ... <= s_M = h.
    Streaming average quantization: at x in X_l, with v_1..v_k the codes that x got in the layers before,
        t_l(x) = z(x) + sum_{j=1..k} (z(x) - e_{v_j}),   v_{k+1} = argmin_v |t_l(x) - e_v|^2,
        m_l(x) = (e_{v_1} + ... + e_{v_{k+1}}) / (k + 1).
    The decoder, V2L's without global path, takes z(x) + sg(m_M(x) - z(x)), sg: no gradient. The quantizer loss is
        1/M sum_l mean_{x in X_l} [ `commitment` * (sg(m_l(x)) - z(x))^2 + `codebook` * (m_l(x) - sg(z(x)))^2 ].
    Semantic guidance, for the image feature f and the first S = `semantic_layers` layers, codes in t_l and sigma fixed:
        q(v) = softmax_v( cos(f, c_v) / `similarity_temperature` ),
        p_l(v | x) = softmax_v( -|t_l(x) - e_v|^2 / (sigma^2 * `distance_temperature`) ),
        sigma^2 = mean_v |e_v - mean_u e_u|^2,
        loss = mean over all (l, x in X_l), l <= S, of  -sum_v q(v) log p_l(v | x).

    Global ids are those of the layers before the last, layer by layer, row-major within: with sides 1, 2, 4, 8 the
    first 1, 5 and 21 are one, two and three layers. Local ids are the last layer's. Encoding takes no image feature.
    """

    worded_ids = "global"
    note = "our reading: no code was released"
    position_N: Tensor
    codes_L: Tensor

    def __init__(self, name: str, network: Network, entry: SPAEEntry, local_VD: Tensor):
        super().__init__(name, "spae", network, local_VD.shape[1])
        grid = self.geometry.grid
        if problem := pyramid_problem(entry, grid):
            raise UserError(f"`tokenizers.{name}.pyramid` is {entry.pyramid}", problem, "mend `pyramid`")
        self.entry = entry
        self.sizes = [side**2 for side in entry.pyramid]
        self.global_tokens = sum(self.sizes[:-1])
        self.add_codebook(local_VD)
        self.vector_norm = nn.BatchNorm1d(local_VD.shape[1], affine=False)
        layers = [layer_positions(side, grid) for side in entry.pyramid]
        self.register_buffer("position_N", torch.cat(layers), persistent=False)
        self.register_buffer("codes_L", self.position_N.bincount(minlength=grid**2), persistent=False)

    @classmethod
    def create(cls, name: str, entry: SPAEEntry, settings: TrainTokenizer, codebook: dict[str, Tensor]) -> Self:
        return cls(name, settings.network, entry, codebook["local_VD"])

    @classmethod
    def rebuild(cls, description: dict, tensors: dict[str, Tensor]) -> Self:
        build = description["build"]
        network, entry = Network.model_validate(build["network"]), SPAEEntry.model_validate(build["entry"])
        return cls(description["name"], network, entry, tensors[LOCAL_TABLE])

    @classmethod
    def words(cls, entry: SPAEEntry, codebook: dict[str, Tensor], vocabulary: pa.Table) -> CodeWords:
        entries: list[int | None] = list(range(len(codebook["local_VD"])))
        return CodeWords(vocabulary["text"].take(entries).to_pylist(), entries)

    def forward(self, batch: Batch, loss: Loss) -> TrainingPass:
        vector_BLD = self.vectors(batch.image_BCHW)
        with computed_in("float32"):
            codebook_VD = self.codes()
            layers = self.quantize(vector_BLD, codebook_VD)
            weights = loss.codebook, loss.commitment
            terms = [
                quantizers.quantizer_loss(vector_BLD[:, layer.position_P], layer.mean_BPD, *weights) for layer in layers
            ]
            losses = {"quantizer": torch.stack(terms).mean()}
            if "feature_BD" in self.reads(loss):
                upper = torch.cat([layer.target_BPD for layer in layers[: self.entry.semantic_layers]], dim=1)
                losses["semantic"] = self.semantic_loss(upper, batch.required("feature_BD"), codebook_VD)
        image_BCHW = self.decode_vectors(quantizers.estimated(vector_BLD, layers[-1].mean_BPD, loss.estimator))
        return TrainingPass(image_BCHW, losses, layers[-1].ids_BP)

    def reads(self, loss: Loss) -> frozenset[str]:
        return frozenset({"feature_BD"} if loss.semantic and self.entry.semantic_layers else ())

    def vectors(self, image_BCHW: Tensor) -> Tensor:
        """What is quantized: normalised vector_BLD of length about 1 of images in [-1, 1]."""
        vector_BDL = ConvolutionalTokenizer.vectors(self, image_BCHW).transpose(1, 2)  # not the base's unit vectors
        return self.vector_norm(vector_BDL).transpose(1, 2) * vector_BDL.shape[1] ** -0.5

    @torch.no_grad()
    def match_moments(
        self, image_BCHW: Tensor, gather: Callable[[Tensor], Tensor] = Tensor.clone
    ) -> list[nn.Parameter]:
        """Moves the projected codes as little as it takes, so that words keep the vectors that guidance gave them."""
        projector = self.codebook_projection
        vector_ND = gather(self.vectors(image_BCHW).flatten(0, 1))
        weight_DD, bias_D = quantizers.transport_map(projector(self.tok_embeddings.weight), vector_ND)
        projector.bias.copy_(weight_DD @ projector.bias + bias_D)
        projector.weight.copy_(weight_DD @ projector.weight)
        return list(projector.parameters())

    def quantize(self, vector_BLD: Tensor, codebook_VD: Tensor) -> list[Layer]:
        """Streaming average quantization of the encoder's vectors with the projected codes, layer by layer."""
        total_BLD, seen_L = torch.zeros_like(vector_BLD), torch.zeros_like(self.codes_L)
        layers = []
        for position_P in self.position_N.split(self.sizes):
            vector_BPD, seen_P1 = vector_BLD[:, position_P], seen_L[position_P, None]
            target_BPD = (seen_P1 + 1) * vector_BPD - total_BLD[:, position_P].detach()
            ids_BP = self.nearest(target_BPD, codebook_VD)
            # not by indexing: its gradient adds up in an order that depends on threads
            total_BLD = total_BLD.index_add(1, position_P, F.embedding(ids_BP, codebook_VD))
            seen_L = seen_L.index_add(0, position_P, torch.ones_like(position_P))
            layers.append(Layer(position_P, ids_BP, target_BPD, total_BLD[:, position_P] / (seen_P1 + 1)))
        return layers

    def semantic_loss(self, target_BPD: Tensor, feature_BD: Tensor, codebook_VD: Tensor) -> Tensor:
        """Cross-entropy of the codes at `target_BPD` to the words that are like the image feature; memory B x P x V."""
        likeness_BV = F.normalize(feature_BD.float(), dim=1) @ F.normalize(self.tok_embeddings.weight, dim=1).T
        wanted_BV = (likeness_BV / self.entry.similarity_temperature).softmax(1)
        variance = codebook_VD.detach().var(0, correction=0).sum()
        scale = 1 / (self.entry.distance_temperature * variance)
        # |target|^2 is the same for every code and cancels; the product with `wanted_BV` needs no B x P x V
        square_V = codebook_VD.square().sum(1)
        logit_BPV = scale * (2 * target_BPD @ codebook_VD.T - square_V)
        mean_BD, mean_B = wanted_BV @ codebook_VD, wanted_BV @ square_V
        wanted_BP = scale * (2 * torch.einsum("bpd,bd->bp", target_BPD, mean_BD) - mean_B[:, None])
        return (logit_BPV.logsumexp(2) - wanted_BP).mean()

    @torch.no_grad()
    def encode(self, image_BCHW: Tensor, feature_BD: Tensor | None = None) -> Codes:
        vector_BLD = self.vectors(image_BCHW)
        with computed_in("float32"):
            codebook_VD = self.codes()
            *upper, last = [layer.ids_BP for layer in self.quantize(vector_BLD, codebook_VD)]
        return Codes(last, torch.cat(upper, dim=1)).of_finite(vector_BLD)

    def decode(self, local_ids_BL: Tensor, global_ids_BK: Tensor | None, visible_BL: Tensor | None = None) -> Tensor:
        """Float32 image_BCHW in about [-1, 1] of the mean code of each position over all layers."""
        if global_ids_BK is None:
            raise ValueError(f"tokenizer {self.name} decodes with global ids")
        code_BND = self.codes(torch.cat([global_ids_BK, local_ids_BL], dim=1))
        total_BLD = code_BND.new_zeros(*local_ids_BL.shape, code_BND.shape[2])
        mean_BLD = total_BLD.index_add(1, self.position_N, code_BND) / self.codes_L[:, None]
        return self.decode_vectors(quantizers.hide(mean_BLD, visible_BL))

    @property
    def codebooks(self) -> tuple[Tensor, Tensor | None]:
        return self.tok_embeddings.weight, self.tok_embeddings.weight

    @property
    def build(self) -> dict:
        return {
            "network": self.network.model_dump(mode="json"),
            "entry": self.entry.model_dump(mode="json", exclude=NO_NETWORK),
        }


def layer_positions(side: int, grid: int) -> Tensor:
    """Centres of `side` x `side` equal blocks of a `grid` x `grid` map, as ascending row-major positions (int64)."""
    block = grid // side
    centre = torch.arange(side) * block + block // 2
    return (centre[:, None] * grid + centre).flatten()
