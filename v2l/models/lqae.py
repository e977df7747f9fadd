"""LQAE (Liu et al. 2023) as its code does it: images in the words of a frozen masked language model, read back by it.

    x = ViT encoder(image), ids = argmin over words v of |x / |x| - e_v / |e_v||^2, q = x + sg(e_ids - x)
    hidden = language model(q with the mask token's embedding at random positions), output = ViT decoder(hidden)
    loss = MSE + 2 (0.005 mean((sg(e) - x)^2) + mean((e - sg(x))^2)) + 0.0001 cross-entropy of the masked ids

e are the word embeddings, sg means: no gradient. The quantizer loss is computed and added twice, once on a latent that
is the identity; its second term has no gradient, since e is frozen. No adversarial and no perceptual loss.
"""

from pathlib import Path
from typing import Self

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.configuration.tokenizer_entries import NO_NETWORK, LQAEEntry
from v2l.configuration.tokenizer_training import Loss, TrainTokenizer
from v2l.data.geometry import Geometry
from v2l.errors import UserError
from v2l.models import quantizers
from v2l.models.masked_lm import FrozenMaskedLM, lm_words
from v2l.models.vision_tokenizer import Batch, Codes, CodeWords, TrainingPass, VisionTokenizer
from v2l.models.vit import ViTDecoder, ViTEncoder
from v2l.precision import computed_in

NO_HEAD = "language model without masked-LM head: weight 0 for its loss"


class LQAETokenizer(VisionTokenizer):
    """Codes are the word ids of `language_model`; the networks are as wide as its embeddings."""

    worded_ids, shown_as = "local", "ordinary token"
    supplied_parts = ("language_model.",)

    def __init__(self, name: str, geometry: Geometry, entry: LQAEEntry, language_model: FrozenMaskedLM):
        super().__init__(name, "lqae", geometry)
        self.entry, self.language_model = entry, language_model
        self.note = "" if language_model.has_head else NO_HEAD
        width = language_model.embedding_VD.shape[1]
        sizes = width, entry.layers, entry.heads, entry.expansion, geometry.grid, entry.patch_size
        self.encoder, self.decoder = ViTEncoder(*sizes), ViTDecoder(*sizes)
        self.output_norm = nn.BatchNorm1d(width, affine=False) if entry.output_norm == "batch" else None

    @classmethod
    def create(cls, name: str, entry: LQAEEntry, settings: TrainTokenizer, codebook: dict[str, Tensor]) -> Self:
        language_model = FrozenMaskedLM.load(Path(entry.language_model))
        network = settings.network
        grid = network.image_size // entry.patch_size
        geometry = Geometry(image_size=network.image_size, resize_via=network.resize_via, grid=grid)
        _require_fit(name, geometry, entry, language_model)
        return cls(name, geometry, entry, language_model)

    @classmethod
    def rebuild(cls, description: dict, tensors: dict[str, Tensor]) -> Self:
        geometry, build = Geometry.model_validate(description["geometry"]), description["build"]
        language_model = FrozenMaskedLM.rebuild(build["language_model"])
        return cls(description["name"], geometry, LQAEEntry.model_validate(build["entry"]), language_model)

    @classmethod
    def words(cls, entry: LQAEEntry, codebook: dict[str, Tensor], vocabulary: pa.Table) -> CodeWords:
        """The texts of the language model's own ids; special tokens as they are written ("[MASK]")."""
        texts = lm_words(Path(entry.language_model))
        return CodeWords(texts, [None] * len(texts))

    def forward(self, batch: Batch, loss: Loss) -> TrainingPass:
        vector_BLD = self.vectors(batch.image_BCHW)
        ids_BL = self.nearest(vector_BLD)
        code_BLD = self.codes(ids_BL)
        losses = {"quantizer": 2 * quantizers.quantizer_loss(vector_BLD, code_BLD, loss.codebook, loss.commitment)}
        is_masked_BL = batch.required("noise_BL") < self.entry.mask_share
        mask_D = self.language_model.embedding_VD[self.language_model.mask_id]
        seen_BLD = torch.where(
            is_masked_BL[..., None], mask_D, quantizers.estimated(vector_BLD, code_BLD, loss.estimator)
        )
        predict = self.language_model.has_head and loss.masked_lm > 0
        hidden_BLD, logits_BLV = self.language_model(seen_BLD, ids_BL, predict)
        if predict:
            losses["masked_lm"] = masked_cross_entropy(logits_BLV, ids_BL, is_masked_BL)
        return TrainingPass(self.decode_hidden(hidden_BLD), losses, ids_BL)

    def reads(self, loss: Loss) -> frozenset[str]:
        return frozenset({"noise_BL"})

    def vectors(self, image_BCHW: Tensor) -> Tensor:
        """What is quantized: float32 vector_BLD of images in [-1, 1], which the encoder sees in [0, 1] (released)."""
        vector_BLD = self.encoder((image_BCHW + 1) / 2)
        if self.output_norm is None:
            return vector_BLD
        deviation_D, mean_D = torch.std_mean(self.language_model.embedding_VD, dim=0)
        return self.output_norm(vector_BLD.transpose(1, 2)).transpose(1, 2) * deviation_D + mean_D

    def nearest(self, vector_BLD: Tensor) -> Tensor:
        """The words (ids_BL) whose embeddings have the nearest direction."""
        with torch.no_grad(), computed_in("float32"):
            direction_VD = F.normalize(self.language_model.embedding_VD, dim=1)
            ids = quantizers.nearest_codes(F.normalize(vector_BLD, dim=2).flatten(0, 1), direction_VD)
        return ids.view(vector_BLD.shape[:2])

    def codes(self, ids_BL: Tensor) -> Tensor:
        """Embeddings of words, of any length."""
        return F.embedding(ids_BL, self.language_model.embedding_VD)

    def decode_hidden(self, hidden_BLD: Tensor) -> Tensor:
        """Float32 image_BCHW in about [-1, 1] of the language model's last hidden state."""
        return self.decoder(hidden_BLD) * 2 - 1

    @torch.no_grad()
    def encode(self, image_BCHW: Tensor, feature_BD: Tensor | None = None) -> Codes:
        vector_BLD = self.vectors(image_BCHW)
        return Codes(self.nearest(vector_BLD), None).of_finite(vector_BLD)

    def decode(self, local_ids_BL: Tensor, global_ids_BK: Tensor | None, visible_BL: Tensor | None = None) -> Tensor:
        """No word is masked for the language model (released evaluation)."""
        hidden_BLD = self.language_model(self.codes(local_ids_BL), local_ids_BL)[0]
        return self.decode_hidden(quantizers.hide(hidden_BLD, visible_BL))

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.patches.weight

    @property
    def compiled_parts(self) -> list[nn.Module]:
        return [self.encoder, self.language_model]

    @property
    def codebooks(self) -> tuple[Tensor, Tensor | None]:
        return self.language_model.embedding_VD, None

    @property
    def build(self) -> dict:
        return {
            "entry": self.entry.model_dump(mode="json", exclude=NO_NETWORK),
            "language_model": self.language_model.build,
        }


def masked_cross_entropy(logits_BLV: Tensor, ids_BL: Tensor, is_masked_BL: Tensor) -> Tensor:
    """Cross-entropy at the masked positions, averaged over those of each image and then over images.

    An image without masked position counts as 0 (released: not a number).
    """
    loss_BL = F.cross_entropy(logits_BLV.transpose(1, 2), ids_BL, reduction="none") * is_masked_BL
    return (loss_BL.sum(1) / is_masked_BL.sum(1).clamp(min=1)).mean()


def _require_fit(name: str, geometry: Geometry, entry: LQAEEntry, language_model: FrozenMaskedLM) -> None:
    """Raise UserError if image, patches, heads and language model do not go together."""
    width, hidden = language_model.embedding_VD.shape[1], language_model.model.config.hidden_size
    length, longest = geometry.grid**2, language_model.positions
    if geometry.image_size % entry.patch_size:
        raise UserError(
            f"`tokenizers.{name}.patch_size` is {entry.patch_size}, the image {geometry.image_size} pixels wide",
            "a whole number of patches",
            f"change it or `tokenizers.{name}.train_tokenizer.network.image_size`",
        )
    if width != hidden:
        raise UserError(
            f"`tokenizers.{name}.language_model` has embeddings of width {width} and hidden states of width {hidden}",
            "equal widths: the decoder takes both",
            "use BERT, RoBERTa or another such model",
        )
    if width % entry.heads:
        raise UserError(
            f"`tokenizers.{name}.heads` is {entry.heads}, the language model {width} wide",
            f"a divisor of {width}",
            "change the key",
        )
    if longest is not None and length > longest:
        raise UserError(
            f"tokenizer {name} writes {length} words an image, its language model reads {longest}",
            f"at most {longest}",
            f"raise `tokenizers.{name}.patch_size` or use smaller images",
        )
