"""The V2L Tokenizer (paper sections 3.2 and 3.3) and its variants without global path and without expansion."""

from typing import Self

import pyarrow as pa
import torch
from torch import Tensor, nn

from v2l.configuration.tokenizer_entries import V2LEntry
from v2l.configuration.tokenizer_training import Loss, Network, TrainTokenizer
from v2l.models import quantizers
from v2l.models.convolutional import GLOBAL_TABLE, LOCAL_TABLE, ProjectedCodebook
from v2l.models.vision_tokenizer import Batch, Codes, CodeWords, TrainingPass

# Which codes of stage filter_vocabulary the decoder attends to, by method.
GLOBAL_CODEBOOKS = {"v2l": "global", "v2l-subword": "subword_global", "v2l-local": None}


class V2LNetwork(ProjectedCodebook):
    """Frozen local codebook `local_VD` behind a trained projector; cross-attention to `global_tokens` of `global_VD`.

    Without `global_VD` (method v2l-local) there is no global path: the decoder is VQ-GAN's.
    """

    chosen_parts = ("tok_embeddings_global.",)

    def __init__(
        self,
        name: str,
        method: str,
        network: Network,
        global_tokens: int,
        local_VD: Tensor,
        global_VD: Tensor | None = None,
    ):
        super().__init__(name, method, network, local_VD.shape[1], None if global_VD is None else global_VD.shape[1])
        self.add_codebook(local_VD)
        if method == "v2l-subword":
            self.note = "our reading of the paper's Baseline: no vocabulary expansion"
        if global_VD is not None:
            self.worded_ids, self.needs_features, self.global_tokens = "global", True, global_tokens
            self.tok_embeddings_global = nn.Embedding.from_pretrained(global_VD.float(), freeze=True)

    @classmethod
    def create(cls, name: str, entry: V2LEntry, settings: TrainTokenizer, codebook: dict[str, Tensor]) -> Self:
        kind = GLOBAL_CODEBOOKS[entry.method]
        global_VD = codebook[f"{kind}_VD"] if kind else None
        return cls(name, entry.method, settings.network, settings.global_tokens, codebook["local_VD"], global_VD)

    @classmethod
    def rebuild(cls, description: dict, tensors: dict[str, Tensor]) -> Self:
        tables = tensors[LOCAL_TABLE], tensors.get(GLOBAL_TABLE)
        network = Network.model_validate(description["build"]["network"])
        return cls(description["name"], description["method"], network, description["global_tokens"], *tables)

    @classmethod
    def words(cls, entry: V2LEntry, codebook: dict[str, Tensor], vocabulary: pa.Table) -> CodeWords:
        kind = GLOBAL_CODEBOOKS[entry.method]
        if kind is None:
            return CodeWords([], [])
        entries = codebook[f"{kind}_entries_V"].tolist()
        return CodeWords(vocabulary["text"].take(entries).to_pylist(), entries)

    def forward(self, batch: Batch, loss: Loss) -> TrainingPass:
        vector_BLD = self.vectors(batch.image_BCHW)
        ids_BL = self.nearest(vector_BLD)
        code_BLD = self.codes(ids_BL)
        quantizer = quantizers.quantizer_loss(vector_BLD, code_BLD, loss.codebook, loss.commitment)
        global_ids_BK = batch.required("global_ids_BK") if self.has_global else None
        visible_BL = batch.required("noise_BL") >= loss.hidden_codes if loss.hidden_codes else None
        passed_BLD = quantizers.hide(quantizers.estimated(vector_BLD, code_BLD, loss.estimator), visible_BL)
        image_BCHW = self._decode(passed_BLD, global_ids_BK)
        return TrainingPass(image_BCHW, {"quantizer": quantizer}, ids_BL)

    def reads(self, loss: Loss) -> frozenset[str]:
        found = {"global_ids_BK": self.has_global, "noise_BL": loss.hidden_codes > 0}
        return frozenset(name for name, is_read in found.items() if is_read)

    @torch.no_grad()
    def encode(self, image_BCHW: Tensor, feature_BD: Tensor | None = None) -> Codes:
        vector_BLD = self.vectors(image_BCHW)
        ids_BL = self.nearest(vector_BLD)
        if not self.has_global:
            return Codes(ids_BL, None).of_finite(vector_BLD)
        if feature_BD is None:
            raise ValueError(f"tokenizer {self.name} encodes with image features")
        return Codes(ids_BL, self.global_ids(feature_BD)).of_finite(vector_BLD, feature_BD)

    def global_ids(self, feature_BD: Tensor) -> Tensor:
        """The `global_tokens` codes nearest to each image feature, nearest first: ids_BK (released)."""
        return quantizers.nearest_k_codes(feature_BD, self.tok_embeddings_global.weight, self.global_tokens)

    def decode(self, local_ids_BL: Tensor, global_ids_BK: Tensor | None, visible_BL: Tensor | None = None) -> Tensor:
        return self._decode(quantizers.hide(self.codes(local_ids_BL), visible_BL), global_ids_BK)

    @property
    def codebooks(self) -> tuple[Tensor, Tensor | None]:
        return self.tok_embeddings.weight, self.tok_embeddings_global.weight if self.has_global else None

    @property
    def build(self) -> dict:
        return {"network": self.network.model_dump(mode="json")}

    def _decode(self, code_BLD: Tensor, global_ids_BK: Tensor | None) -> Tensor:
        if not self.has_global:
            return self.decode_vectors(code_BLD)
        if global_ids_BK is None:
            raise ValueError(f"tokenizer {self.name} decodes with global ids")
        return self.decode_vectors(code_BLD, self.tok_embeddings_global(global_ids_BK))
