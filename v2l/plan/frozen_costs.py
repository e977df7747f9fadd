"""What the frozen networks compute: image-text encoders, and the networks that images are scored with."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from efficientnet_lite_pytorch import EfficientNet
from torch.func import functional_call
from torchvision.models import inception_v3

from v2l.configuration.config import ScorePredictions
from v2l.configuration.model_entries import ConseEncoder, Encoder, OpenClipEncoder
from v2l.encoders.clip_tokenizer import ClipTokenizer
from v2l.encoders.conse import NETWORK
from v2l.encoders.prompt_templates import PromptTemplate
from v2l.encoders.shared_beginnings import SharedBeginnings
from v2l.models.lpips_network import empty_lpips
from v2l.plan.pretended import meta_flops

INCEPTION_SIDE = 299
USUAL_TEXT = "a big dog"
MINI_LM: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


class EncoderCosts:
    """FLOPs and parameters of an image-text encoder, from its configuration. `known`: whether its kind is one of ours.

    `width`: channels of a feature.
    """

    image_model: Any
    text_model: Any

    def __init__(self, entry: Encoder):
        self.entry, self.known = entry, True
        self._tails: dict[tuple[int, int], float] = {}
        with torch.device("meta"):
            if isinstance(entry, OpenClipEncoder):
                self.image_model = self.text_model = _open_clip(entry)
                self.width = int(self.image_model.text_projection.shape[-1])
            elif isinstance(entry, ConseEncoder):
                self.text_model = transformers.AutoModel.from_config(
                    _sentence_config(Path(entry.text)), trust_remote_code=False
                )
                self.width = self.text_model.config.hidden_size
        if isinstance(entry, ConseEncoder):
            self.image_model = EfficientNet.from_name(NETWORK).to("meta")
        if not isinstance(entry, OpenClipEncoder | ConseEncoder):
            self.known, self.width = False, 768
        for model in (self.image_model, self.text_model) if self.known else ():
            model.eval().requires_grad_(False)

    @property
    def parameters(self) -> int:
        """Of both towers."""
        towers = {self.image_model, self.text_model} if self.known else set()
        return sum(value.numel() for tower in towers for value in tower.parameters())

    def image_flops(self) -> float:
        """FLOPs of an image."""
        if not self.known:
            return 0
        is_clip = isinstance(self.entry, OpenClipEncoder)
        side = self.image_model.visual.image_size if is_clip else EfficientNet.get_image_size(NETWORK)
        height, width = side if isinstance(side, tuple) else (side, side)
        run = self.image_model.encode_image if is_clip else self.image_model
        return meta_flops(lambda: run(torch.zeros(1, 3, height, width, device="meta")))

    def text_flops(self, tokens: int) -> float:
        """FLOPs of a text of so many tokens, marks of beginning and end among them."""
        if not self.known:
            return 0
        ids_1T = torch.zeros(1, tokens, dtype=torch.int64, device="meta")
        if isinstance(self.entry, ConseEncoder):
            return meta_flops(lambda: self.text_model(input_ids=ids_1T))
        model = self.text_model
        shortened = {  # as `v2l.encoders.open_clip` ends the context
            "positional_embedding": model.positional_embedding[:tokens],
            "attn_mask": model.attn_mask[:tokens, :tokens],
        }
        return meta_flops(lambda: functional_call(model, shortened, (None, ids_1T)))

    def prompt_flops(self, template: PromptTemplate) -> float:
        """FLOPs of a text of usual length in `template`, whose beginning is computed once for all texts."""
        tokens = self.text_tokens(template(USUAL_TEXT))
        shares = isinstance(self.entry, OpenClipEncoder) and SharedBeginnings.fits(self.text_model)
        if not (shares and ClipTokenizer.is_plain(template.beginning)):
            return self.text_flops(tokens)
        return self._tail_flops(self.text_tokens(template.beginning) - 1, tokens)

    def _tail_flops(self, beginning: int, tokens: int) -> float:
        if (beginning, tokens) not in self._tails:
            shared, ids = SharedBeginnings(self.text_model), tuple(range(beginning))
            tail_1T = torch.zeros(1, tokens - beginning, dtype=torch.int64, device="meta")
            shared.encode(ids, tail_1T, tail_1T[:, 0])  # the beginning, once
            self._tails[beginning, tokens] = meta_flops(lambda: shared.encode(ids, tail_1T, tail_1T[:, 0]))
        return self._tails[beginning, tokens]

    def text_tokens(self, text: str) -> int:
        """Tokens of a text with both marks: CLIP's own, else about one for each word."""
        if self.known and isinstance(self.entry, OpenClipEncoder):
            return len(_clip_tokenizer().encode(text)) + 2
        return len(text.split()) + 2


@cache
def _clip_tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer()


@cache
def lpips_flops(side: int) -> float:
    """FLOPs of LPIPS on AlexNet for a pair of images."""
    network, image_1CHW = empty_lpips("alex", "meta").to("meta"), torch.zeros(1, 3, side, side, device="meta")
    return meta_flops(lambda: network(image_1CHW, image_1CHW))


@cache
def _frechet_flops(kind: str) -> float:
    if kind == "inception-v3-fid":
        with torch.device("meta"):
            network = inception_v3(weights=None, init_weights=False).eval()
        return meta_flops(lambda: network(torch.zeros(1, 3, INCEPTION_SIDE, INCEPTION_SIDE, device="meta")))
    side, network = EfficientNet.get_image_size(kind), EfficientNet.from_name(kind).to("meta").eval()
    return meta_flops(lambda: network.extract_features(torch.zeros(1, 3, side, side, device="meta")))


def score_flops(section: ScorePredictions, side: int) -> float:
    """FLOPs of an image and its original: LPIPS if it is asked for, and the Frechet features of both."""
    return lpips_flops(side) * ("lpips" in section.image_metrics) + 2 * _frechet_flops(section.frechet)


def _open_clip(entry: OpenClipEncoder) -> Any:
    name = entry.model
    if name.endswith(".json"):
        if not Path(name).exists():
            name = "ViT-L-14"
        else:
            open_clip.add_model_config(Path(name))
            name = Path(name).stem
    logging.disable(logging.WARNING)  # it says that the weights are random
    try:
        return open_clip.create_model(name, device="meta", force_quick_gelu=entry.quick_gelu)
    finally:
        logging.disable(logging.NOTSET)


def _sentence_config(folder: Path) -> transformers.PretrainedConfig:
    if (folder / "config.json").exists():
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return transformers.BertConfig(**MINI_LM)
