"""The tokenizers as a library: pictures to words and codes of a language model's vocabulary, and back."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

from v2l.data.images import to_tensor, to_uint8, tokenizer_image
from v2l.encoders.image_text_encoder import ImageTextEncoder
from v2l.encoders.loader import load_encoder
from v2l.encoders.prompt_templates import prompt_templates
from v2l.encoders.text_embedding import embed_texts
from v2l.errors import UserError, require_each_finite
from v2l.io.provenance import KEY
from v2l.library.code_vocabulary import CodeVocabulary
from v2l.library.image_codes import ImageCodes
from v2l.library.model_card import model_card
from v2l.library.pictures import Images, as_pictures
from v2l.library.pretrained_folder import (
    AGAIN,
    CONFIG,
    EXPECTED,
    VOCABULARY,
    WEIGHTS,
    PretrainedSettings,
    copy_encoder,
    encoder_of,
    read_network,
    read_settings,
    read_vocabulary,
    write_json,
)
from v2l.memory_errors import out_of_memory
from v2l.models.vision_tokenizer import NO_CODE, Codes, VisionTokenizer
from v2l.precision import computed_in
from v2l.runtime import device

SAME_ENCODER = 0.9  # least cosine of a word's embedding and its global code; another encoder's is about 0
WORDS_COMPARED = 4
DAMAGED = "the weights are damaged: get them again"


class V2LTokenizer(ModelHubMixin):
    """A V2L Tokenizer (paper sections 3.2 and 3.3) or one of its baselines, frozen, in float32.

    Made by `from_pretrained` (a folder) or `from_experiment` (the pipeline's own results). It computes on the GPU if
    there is one. The image-text encoder, which global codes need, is read when the first picture is encoded.
    """

    def __init__(
        self, network: VisionTokenizer, settings: PretrainedSettings, vocabulary: CodeVocabulary, metadata: dict
    ):
        self.network, self.settings, self.vocabulary = network.to(device()), settings, vocabulary
        self.metadata = metadata

    @classmethod
    def from_experiment(cls, name: str = "v2l", experiment: str = "demo") -> Self:
        """Tokenizer `tokenizers.<name>` of an experiment of this repository, the working directory.

        Of `results/<experiment>/train_tokenizer/` if the pipeline made it, else of the file that its entry names as
        `weights`, whose frozen table of subwords is then computed here (a minute on a CPU). Raises UserError for
        unknown names and for files that are not there.
        """
        from v2l.library.experiment_weights import of_experiment

        return cls(*of_experiment(name, experiment))

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, encoder: dict[str, Any] | None = None, **hub: Any
    ) -> Self:
        """The tokenizer of a folder that `save_pretrained` wrote, or of such a repository on a Hugging Face hub.

        `encoder`: an entry as in `encoders` of an experiment, in place of the one that the folder has or names. `hub`:
        `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`. No network is touched for a folder.
        Raises UserError for a folder of another kind and for damaged files, with what was expected and found.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = _downloaded(folder, hub)
        read_settings(folder)  # before the mixin reads it
        return super().from_pretrained(str(folder), encoder=encoder)

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls, *, model_id: str, encoder: dict[str, Any] | None, **hub: Any
    ) -> Self:
        folder = Path(model_id)
        settings = read_settings(folder)
        network, file = read_network(folder, settings)
        if encoder is not None:
            settings = settings.model_copy(update={"encoder": encoder, "encoder_included": False})
        return cls(network, settings, read_vocabulary(folder), file.metadata)

    def save_pretrained(self, save_directory: str | Path, *, include_encoder: bool = True, **hub: Any) -> str | None:
        """Write `config.json`, `model.safetensors`, `vocabulary.json`, `README.md`, and the encoder's files.

        Without `include_encoder` the folder names them where they are. An existing README.md stays as it is, as in all
        of Hugging Face's libraries. `hub`: `push_to_hub`, `repo_id` and what `push_to_hub` takes. Raises UserError for
        a push without the encoder: paths of this machine are of no use elsewhere.
        """
        if hub.get("push_to_hub") and not include_encoder:
            raise UserError("push_to_hub without include_encoder", "both, or neither", "leave include_encoder out")
        url = super().save_pretrained(save_directory, **hub)
        if include_encoder:
            copy_encoder(Path(save_directory), self.settings)
        return url

    def _save_pretrained(self, save_directory: Path) -> None:
        own = {key: value for key, value in self.metadata.items() if key not in (KEY, "tokenizer")}
        self.network.save(save_directory / WEIGHTS, self.metadata[KEY], own)
        write_json(save_directory / VOCABULARY, self.vocabulary)
        write_json(save_directory / CONFIG, self.settings)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The model card, from the provenance of the weights."""
        return model_card(self.settings, self.metadata)

    @property
    def name(self) -> str:
        """Its name in the experiment that trained it."""
        return self.network.name

    @cached_property
    def encoder(self) -> ImageTextEncoder | None:
        """The image-text encoder; None if codes need no image features.

        Raises UserError if its files are missing, or if it is not the one whose embeddings the global codes are.
        """
        if not self.network.needs_features:
            return None
        if self.settings.encoder is None:
            raise UserError(
                f"{CONFIG} of {self.name} names no encoder", "the one it was trained with", "pass `encoder`"
            )
        loaded = load_encoder(encoder_of(self.settings.encoder), device())
        self._require_own(loaded)
        return loaded

    def _require_own(self, encoder: ImageTextEncoder) -> None:
        code_VD = self.network.codebooks[1]
        if code_VD is None:
            return
        problem = f"features of width {encoder.dimension}, global codes of width {code_VD.shape[1]}"
        if encoder.dimension == code_VD.shape[1]:
            words = self.vocabulary.words[:WORDS_COMPARED]
            embedding_VD = embed_texts(encoder, words, prompt_templates(self.settings.templates), None)
            cosine_V = cosine_similarity(embedding_VD, code_VD[: len(words)].float().cpu(), dim=1)
            if bool((cosine_V >= SAME_ENCODER).all()):
                return
            problem = f"cosine {float(cosine_V.min()):.2f} of a word and its global code"
        raise UserError(
            f"the encoder is not the one that tokenizer {self.name} was trained with ({problem})",
            f"encoder {self.metadata['encoder']}",
            "name its files in `encoder` of from_pretrained",
        )

    def encode(self, images: Images, *, fit: Literal["crop", "pad"] | None = None, batch_size: int = 64) -> ImageCodes:
        """Codes of pictures (paper section 3.2), as stages embed_images and extract_tokens make them.

        `images`: see `v2l.library.pictures.as_pictures`; of any size. They are made square by `fit` (crop: the centre;
        pad: white margins; default: as in training). Raises UserError for other input, for missing or foreign encoder
        files, and when memory runs out.
        """
        pictures = as_pictures(images)
        if not pictures:
            raise UserError("`images` is empty", "at least one picture", "pass one")
        fit = fit or self.settings.fit
        if fit not in ("crop", "pad"):
            raise UserError(f"`fit` is {fit!r}", "crop or pad", "name one of them, or leave it out")
        found: list[Codes] = []
        with self.network.codes_fixed():
            for batch in _batches(pictures, batch_size):
                with out_of_memory("encode", "batch_size", f"{len(batch)} images"), torch.inference_mode():
                    found.append(self._encoded(batch, fit))
        side = self.network.geometry.grid
        local_BL = torch.cat([codes.local_BL for codes in found]).cpu()
        shared = [codes.global_BK for codes in found if codes.global_BK is not None]
        has_codes_B = local_BL.ne(NO_CODE).all(1).tolist()
        require_each_finite(f"vectors of tokenizer {self.name}", range(len(pictures)), has_codes_B, DAMAGED)
        return ImageCodes(
            local_ids=local_BL.view(-1, side, side),
            global_ids=torch.cat(shared).cpu() if shared else None,
            tokenizer=self.network.description,
            vocabulary=self.vocabulary,
        )

    def _encoded(self, pictures: list[Image.Image], fit: str) -> Codes:
        feature_BD = self.encoder.encode_images(pictures, fit) if self.encoder else None
        squares = [tokenizer_image(picture, self.network.geometry, fit) for picture in pictures]
        with computed_in("float32"):
            return self.network.encode(to_tensor(squares).to(device()), feature_BD)

    def decode(
        self, codes: ImageCodes, *, visible: Tensor | np.ndarray | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """Pictures of codes, uint8 (B, S, S, 3) of 0..255 (RGB), as stage reconstruct_images makes them (section 3.2).

        `visible`: bool (B, h, w); where false the decoder gets a zero vector for the local code (paper figure 8).
        Raises UserError for codes of another tokenizer, for ids outside the codebooks and for other shapes.
        """
        local_BL, shared = self._required(codes)
        visible_BL = None if visible is None else self._visible(torch.as_tensor(visible), local_BL)
        images = []
        for rows in _batches(torch.arange(len(local_BL)), batch_size):
            further = [None if part is None else part[rows].to(device()) for part in (shared, visible_BL)]
            scope = out_of_memory("decode", "batch_size", f"{len(rows)} images")
            with scope, torch.inference_mode(), computed_in("float32"):
                image_BCHW = self.network.decode(local_BL[rows].to(device()), *further)
            finite_B = image_BCHW.isfinite().flatten(1).all(1).tolist()
            require_each_finite(f"pictures that {self.name} decodes", rows.tolist(), finite_B, DAMAGED)
            images.append(to_uint8(image_BCHW).cpu().numpy())
        return np.concatenate(images)

    def _required(self, codes: ImageCodes) -> tuple[Tensor, Tensor | None]:
        """Local ids_BL and global ids_BK of codes that are this tokenizer's."""
        own, theirs = self.network.description, codes.tokenizer
        if theirs.get("codebooks") != own["codebooks"]:
            raise UserError(
                f"the codes are those of tokenizer {theirs.get('name')!r}, whose codebooks are others",
                f"codes of tokenizer {self.name!r}",
                "decode them with the tokenizer that made them",
            )
        side, sizes = own["geometry"]["grid"], own["codebooks"]
        _require_ids("local_ids", codes.local_ids, (len(codes), side, side), sizes["local_size"])
        if not self.network.has_global:
            return codes.local_ids.flatten(1), None
        _require_ids("global_ids", codes.global_ids, (len(codes), own["global_tokens"]), sizes["global_size"])
        return codes.local_ids.flatten(1), codes.global_ids

    def _visible(self, visible_BHW: Tensor, local_BL: Tensor) -> Tensor:
        shape = (len(local_BL), self.network.geometry.grid, self.network.geometry.grid)
        if visible_BHW.dtype != torch.bool or tuple(visible_BHW.shape) != shape:
            found = f"{visible_BHW.dtype} of shape {tuple(visible_BHW.shape)}"
            raise UserError(f"`visible` is {found}", f"bool of shape {shape}", "pass such a mask")
        return visible_BHW.flatten(1)


def _downloaded(name: Path, hub: dict[str, Any]) -> Path:
    """The folder of a repository on a hub, downloaded unless it is there. Raises UserError if it cannot be had."""
    if name.exists():
        raise UserError(f"{name} is a file", EXPECTED, AGAIN)
    if name.is_absolute() or len(name.parts) > 2:
        raise UserError(f"{name} does not exist", EXPECTED, AGAIN)
    try:
        return Path(snapshot_download(name.as_posix(), **hub))
    except (OSError, ValueError, HfHubHTTPError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"{name} is no folder here, and no hub gives it ({problem})", EXPECTED, AGAIN) from None


def _require_ids(name: str, ids: Tensor | None, shape: tuple[int, ...], size: int) -> None:
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or tuple(ids.shape) != shape or not len(ids):
        found = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise UserError(
            f"`{name}` is {found}", f"an int64 tensor of shape {shape}, at least one image", "pass such ids"
        )
    if int(ids.min()) < 0 or int(ids.max()) >= size:
        raise UserError(
            f"`{name}` runs from {int(ids.min())} to {int(ids.max())}", f"ids of 0..{size - 1}", "pass such ids"
        )


def _batches(items: Any, size: int) -> Iterator[Any]:
    if size < 1:
        raise UserError(f"`batch_size` is {size}", "at least 1", "raise it")
    return (items[start : start + size] for start in range(0, len(items), size))
