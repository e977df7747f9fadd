"""What every tokenizer offers, whatever its network: images to codes and back, a training pass, and its description.

Shape suffixes: B images, C channels, H and W pixels, L = h * w local positions in row-major order, K global codes,
V codes, D their width.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import pyarrow as pa
import torch
from torch import Tensor, nn

from v2l.configuration.tokenizer_training import Loss, TrainTokenizer
from v2l.data.geometry import Geometry
from v2l.errors import UserError
from v2l.io.storage import hash_tensor, write_tensors


class Batch(NamedTuple):
    """A training batch: images in [-1, 1], and what of the rest `VisionTokenizer.reads`.

    Image features, uniform numbers in [0, 1) for random masks, and the global ids that `encode` finds by the features.
    """

    image_BCHW: Tensor
    feature_BD: Tensor | None = None
    noise_BL: Tensor | None = None
    global_ids_BK: Tensor | None = None

    def required(self, name: str) -> Tensor:
        """One of the tensors that can be missing. Raises ValueError if it is."""
        if (found := getattr(self, name)) is None:
            raise ValueError(f"the training pass reads `{name}`, which the batch does not have")
        return found

    def part(self, rows: slice) -> "Batch":
        """The batch of some of the images."""
        image_BCHW, *others = self
        return Batch(image_BCHW[rows], *(None if tensor is None else tensor[rows] for tensor in others))


NO_CODE = -1  # in place of the local ids of an image for which something is not finite


class Codes(NamedTuple):
    """Token ids (int64): of the local codebook, and of the global one unless the tokenizer has none."""

    local_BL: Tensor
    global_BK: Tensor | None

    def of_finite(self, *computed: Tensor) -> Self:
        """With NO_CODE in images where what the ids were `computed` from is not finite: no code is nearest to it."""
        finite_B1 = torch.stack([part.isfinite().flatten(1).all(1) for part in computed], 1).all(1, keepdim=True)
        return self._replace(local_BL=self.local_BL.where(finite_B1, NO_CODE))


class TrainingPass(NamedTuple):
    """A reconstruction, the network's own losses by their key in `train_tokenizer.loss`, and all local ids."""

    image_BCHW: Tensor
    losses: dict[str, Tensor]
    ids_BL: Tensor


class CodeWords(NamedTuple):
    """What the codes that a language model reads stand for: texts, and rows of the vocabulary (None: not in it)."""

    texts: list[str]
    entries: list[int | None]

    @classmethod
    def of_texts(cls, texts: list[str], vocabulary: pa.Table) -> "CodeWords":
        """Each text with the first row of the vocabulary that has it."""
        rows: dict[str, int] = {}
        for row, text in enumerate(vocabulary["text"].to_pylist()):
            rows.setdefault(text, row)
        entries = [rows.get(text) for text in texts]
        logging.info("%d of %d words are texts of the vocabulary", sum(row is not None for row in entries), len(texts))
        return cls(texts, entries)


class FinishedTokenizer(NamedTuple):
    """A trained or imported tokenizer, its codes' words, the text of metrics.jsonl, and how it was trained."""

    tokenizer: "VisionTokenizer"
    words: CodeWords
    metrics: str
    training: dict


class VisionTokenizer(nn.Module, ABC):
    """Images to codes and back. `forward(batch, loss)` is the training pass.

    `geometry`: what it takes in, and the side of its token map. `global_tokens`: number of global ids of an image, 0
    without a global path. `worded_ids`: which ids stand for words. `shown_as`: how a local code becomes an id of the
    language model: as its own subword, or as the ordinary token of the same number. `needs_features`: whether `encode`
    takes image features. `note`: what every row of it in a table says.

    Frozen parts, by the beginning of their keys in the state: `supplied_parts` are the same for every experiment of
    this language model and encoder, so that a compact file leaves them out; `chosen_parts` depend on an experiment's
    pictures, and their words stand in the weights file.
    """

    worded_ids: Literal["global", "local"] | None = None
    shown_as: Literal["subword", "ordinary token"] = "subword"
    needs_features: bool = False
    global_tokens: int = 0
    note: str = ""
    supplied_parts: tuple[str, ...] = ()
    chosen_parts: tuple[str, ...] = ()

    def __init__(self, name: str, method: str, geometry: Geometry):
        super().__init__()
        self.name, self.method, self.geometry = name, method, geometry

    @classmethod
    @abstractmethod
    def create(cls, name: str, entry: Any, settings: TrainTokenizer, codebook: dict[str, Tensor]) -> Self:
        """An untrained tokenizer of `entry`, which is of its method's class in the registry.

        `codebook` is the output of stage filter_vocabulary.
        """

    @classmethod
    @abstractmethod
    def rebuild(cls, description: dict, tensors: dict[str, Tensor]) -> Self:
        """The network of `description`, ready to load `tensors`."""

    @classmethod
    def words(cls, entry: Any, codebook: dict[str, Tensor], vocabulary: pa.Table) -> CodeWords:
        """What the codes that `worded_ids` names stand for, in code order; none if it is None."""
        return CodeWords([], [])

    @abstractmethod
    def forward(self, batch: Batch, loss: Loss) -> TrainingPass:
        """The training pass; gradients pass the quantizer as `loss.estimator` says."""

    @abstractmethod
    def encode(self, image_BCHW: Tensor, feature_BD: Tensor | None = None) -> Codes:
        """Codes of images in [-1, 1], NO_CODE where none is nearest; `feature_BD` only where `needs_features`."""

    @abstractmethod
    def decode(self, local_ids_BL: Tensor, global_ids_BK: Tensor | None, visible_BL: Tensor | None = None) -> Tensor:
        """Float32 image_BCHW in about [-1, 1]. Without a global path `global_ids_BK` is left aside.

        Where `visible_BL` is false the decoder gets a zero vector for the code (the input of paper figure 8).
        """

    def match_moments(
        self, image_BCHW: Tensor, gather: Callable[[Tensor], Tensor] = Tensor.clone
    ) -> list[nn.Parameter]:
        """Give the codes the mean and covariance of these images' vectors; returns the parameters it replaced.

        `gather` brings the vectors of all ranks together. A tokenizer whose codes cannot be matched replaces none.
        """
        return []

    def reads(self, loss: Loss) -> frozenset[str]:
        """What the training pass reads of a batch beside its images, by the names in `Batch`."""
        return frozenset({"feature_BD", "noise_BL"})

    def global_ids(self, feature_BD: Tensor) -> Tensor:
        """Global ids_BK of image features, for tokenizers that have them of these alone; ValueError for others."""
        raise ValueError(f"tokenizer {self.name} has no global ids of image features alone")

    def codes_fixed(self) -> AbstractContextManager[None]:
        """While it lasts no parameter changes: what is computed of the codes alone is computed once."""
        return nullcontext()

    @property
    def projector_parameters(self) -> list[nn.Parameter]:
        """What moves the frozen local codes as a whole, of the trained parameters; nothing without projector."""
        return []

    @property
    def has_global(self) -> bool:
        """Whether images have global ids."""
        return self.global_tokens > 0

    @property
    @abstractmethod
    def last_layer(self) -> Tensor:
        """The weight at which the adaptive weight compares gradients (VQ-GAN, equation 7)."""

    @property
    @abstractmethod
    def compiled_parts(self) -> list[nn.Module]:
        """The parts that `train_tokenizer.compile` compiles, each alone; the last layer is in none of them.

        Small ones that come again with other weights: parts of equal code and shapes are compiled once.
        """

    @property
    @abstractmethod
    def codebooks(self) -> tuple[Tensor, Tensor | None]:
        """The tables that local and global ids point into; None without a global path."""

    @property
    @abstractmethod
    def build(self) -> dict:
        """What `rebuild` needs beside the tensors, as plain JSON."""

    @property
    def local_size(self) -> int:
        """Number of local codes."""
        return len(self.codebooks[0])

    def require_subwords(self, subwords: int) -> None:
        """Raise UserError unless there are as many local codes as subwords, where a code is the subword it stands for.

        `subwords` is what the vocabulary's metadata say.
        """
        if self.shown_as == "subword" and self.local_size != subwords:
            raise UserError(
                f"the local codebook of tokenizer {self.name} has {self.local_size} codes, the vocabulary of the "
                f"language model {subwords} subwords",
                "one code for each subword, in the same order",
                "use the language model and the settings of `expand_vocabulary` that the codebook was made with; the "
                "authors' 32,000 codes are all ids of LLaMA: `reserved: true`, `max_subwords: null`",
            )

    @property
    def description(self) -> dict:
        """What every later stage must know of this tokenizer: geometry, codes, and which codebooks they point into."""
        local, shared = self.codebooks
        return {
            "name": self.name,
            "method": self.method,
            "geometry": self.geometry.model_dump(mode="json"),
            "global_tokens": self.global_tokens,
            "worded_ids": self.worded_ids,
            "shown_as": self.shown_as,
            "note": self.note,
            "codebooks": {
                "local": hash_tensor(local),
                "global": None if shared is None else hash_tensor(shared),
                "local_size": len(local),
                "global_size": None if shared is None else len(shared),
            },
            "build": self.build,
        }

    def save(self, path: Path, record: dict, metadata: dict | None = None) -> None:
        """Write all weights, frozen codebooks included, with `description`, provenance `record` and more `metadata`."""
        write_tensors(path, self.state_dict(), record, {"tokenizer": self.description} | (metadata or {}))
