"""open_clip models from local files (the paper: OpenAI's ViT-L/14)."""

import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import normalize

from v2l.configuration.model_entries import OpenClipEncoder
from v2l.encoders.activation_check import warn_of_activation
from v2l.encoders.clip_architecture import architecture_of, quietly, untrained
from v2l.encoders.clip_tokenizer import ClipTokenizer
from v2l.encoders.clip_weights import load_weights
from v2l.encoders.image_text_encoder import ImageTextEncoder, existing_path
from v2l.encoders.prompt_templates import PromptTemplate
from v2l.encoders.shared_beginnings import SharedBeginnings, pools_causally
from v2l.io.overlap import sent
from v2l.precision import computed_in


class OpenClip(ImageTextEncoder):
    """A CLIP model with its own pixel normalisation and the tokenizer that open_clip carries along.

    float16 is the released code's: weights and activations in half, layer norms in float32. bfloat16 is autocast: its
    few bits would not do for what the layers add up.
    """

    def __init__(self, entry: OpenClipEncoder, device: torch.device):
        architecture = architecture_of(entry)
        weights = existing_path(entry.weights, "weights")
        self.device = device
        self._halved = entry.precision == "float16"
        self._scope = "float32" if self._halved else entry.precision
        self.model = untrained(architecture, entry, device).eval().requires_grad_(False)
        load_weights(self.model, architecture.name, weights)
        with quietly():
            self.tokenizer = open_clip.get_tokenizer(architecture.name)
        self._ids = ClipTokenizer(self.tokenizer) if ClipTokenizer.reads_as(self.tokenizer) else None
        self._shared = SharedBeginnings(self.model) if self._ids and SharedBeginnings.fits(self.model) else None
        preprocess = open_clip.get_model_preprocess_cfg(self.model)
        self.image_size = _side(preprocess["size"])
        self.mean_C11, self.std_C11 = (
            torch.tensor(preprocess[key], device=device)[:, None, None] for key in ("mean", "std")
        )
        self.dimension = self.encode_text(["a"]).shape[1]
        warn_of_activation(self, self.model, entry)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """See the base class; the context ends at the batch's last end token, which changes no vector and saves most
        of the work, because a causal mask keeps later positions out of the pooled one."""
        if not (self._ids and pools_causally(self.model)):
            with computed_in(self._scope):
                feature_ND = self.model.encode_text(self.tokenizer(texts).to(self.device))
            return normalize(feature_ND.float(), dim=1)
        ids_NT = self._ids.padded(texts)
        length = ids_NT.shape[1]
        shortened = {
            "positional_embedding": self.model.positional_embedding[:length],
            "attn_mask": self.model.attn_mask[:length, :length],
        }
        with computed_in(self._scope):
            feature_ND = functional_call(self.model, shortened, (None, ids_NT.to(self.device)))[1]
        return normalize(feature_ND.float(), dim=1)

    @torch.no_grad()
    def mean_over_templates(self, templates: list[PromptTemplate], texts: list[str]) -> Tensor:
        """See the base class; a template's words before the text are computed once for all texts, and texts are
        tokenised once for each ending. Differs from the sum over `encode_text` by rounding alone."""
        if not (self._ids and self._shared):
            return super().mean_over_templates(templates, texts)
        tails = {ending: self._ids.tails([text + ending for text in texts]) for _, ending in templates}
        apart = [row for row in range(len(texts)) if any(tail[row] is None for tail in tails.values())]
        if apart:
            mean_BD = torch.empty(len(texts), self.dimension, device=self.device)
            mean_BD[apart] = super().mean_over_templates(templates, [texts[row] for row in apart])
            if alike := sorted(set(range(len(texts))) - set(apart)):
                mean_BD[alike] = self.mean_over_templates(templates, [texts[row] for row in alike])
            return mean_BD
        padded = {
            ending: [tensor.to(self.device) for tensor in self._ids.ended([ids for ids in tail if ids is not None])]
            for ending, tail in tails.items()
        }
        sum_BD = torch.zeros(len(texts), self.dimension, device=self.device)
        for template in templates:
            if not self._ids.is_plain(template.beginning):
                sum_BD += self.encode_text([template(text) for text in texts])
                continue
            beginning = self._ids.start, *self._ids.encode([template.beginning])[0]
            with computed_in(self._scope):
                feature_BD = self._shared.encode(beginning, *padded[template.ending])
            sum_BD += normalize(feature_BD.float(), dim=1)
        return sum_BD / len(templates)

    def token_counts(self, texts: list[str]) -> list[int]:
        if self._ids:
            return [len(ids) for ids in self._ids.encode(texts)]
        return [len(self.tokenizer.encode(text)) for text in texts]

    @torch.no_grad()
    def encode_squares(self, pixels_NHWC: np.ndarray) -> Tensor:
        image_NCHW = sent(torch.from_numpy(pixels_NHWC), self.device).permute(0, 3, 1, 2).float() / 255
        image_NCHW = (image_NCHW - self.mean_C11) / self.std_C11
        with computed_in(self._scope):
            feature_ND = self.model.encode_image(image_NCHW.half() if self._halved else image_NCHW)
        return normalize(feature_ND.float(), dim=1)


def _side(size: int | tuple[int, int]) -> int:
    return size if isinstance(size, int) else size[0]
