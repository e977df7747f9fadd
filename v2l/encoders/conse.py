"""ConSE (Norouzi et al. 2013): an image is the mean of its likeliest class names, as a sentence encoder reads them."""

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from torch.nn.functional import normalize

from v2l.configuration.model_entries import ConseEncoder
from v2l.data.json_files import read_dataset_json
from v2l.encoders.image_text_encoder import ImageTextEncoder, existing_path
from v2l.encoders.sentence_encoder import load_sentence_encoder, longest_text
from v2l.errors import UserError
from v2l.io.overlap import sent
from v2l.io.state_dicts import misfits, read_state_dict
from v2l.precision import computed_in

NETWORK = "efficientnet-lite0"
IMAGE_KEY = "encoder key `image`"
CLASSES, LAST_BIAS = 1000, "_fc.bias"


class Conse(ImageTextEncoder):
    """Sentence encoder for texts; for images, sum over the likeliest ImageNet classes of p(class) x text(class).

    Both sides are centred on the mean of the class texts, which depends on no data set, and normalised.
    """

    def __init__(self, entry: ConseEncoder, device: torch.device):
        self.device, self.precision = device, entry.precision
        self.image_size = EfficientNet.get_image_size(NETWORK)
        self.top_classes = entry.top_classes
        self.tokenizer, self.text_model = load_sentence_encoder(existing_path(entry.text, "text"), device)
        self.longest_text = longest_text(self.tokenizer, self.text_model)
        self.classifier = load_classifier(entry.image, device)
        names = _class_names(existing_path(entry.class_names, "class_names"), self.classifier._fc.out_features)
        class_CD = torch.cat(
            [
                self._sentences([entry.class_template.format(name) for name in names[i : i + 100]])
                for i in range(0, len(names), 100)
            ]
        )
        self.centre_D = class_CD.mean(dim=0)
        self.class_CD = class_CD - self.centre_D
        self.dimension = class_CD.shape[1]

    def encode_text(self, texts: list[str]) -> Tensor:
        return normalize(self._sentences(texts) - self.centre_D, dim=1)

    def token_counts(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer(texts)["input_ids"]]

    @torch.no_grad()
    def encode_squares(self, pixels_NHWC: np.ndarray) -> Tensor:
        probability_NC = self.class_probabilities(pixels_NHWC)
        top = probability_NC.topk(self.top_classes, dim=1)
        return normalize(torch.einsum("nk,nkd->nd", top.values, self.class_CD[top.indices]), dim=1)

    @torch.no_grad()
    def class_probabilities(self, pixels_NHWC: np.ndarray) -> Tensor:
        """float32 probabilities, N x 1000, of the ImageNet classes in uint8 RGB images of 224 x 224 px."""
        image_NCHW = sent(torch.from_numpy(pixels_NHWC), self.device).permute(0, 3, 1, 2).float()
        with computed_in(self.precision):
            logits_NC = self.classifier((image_NCHW - 127) / 128)
        return logits_NC.float().softmax(dim=1)

    @torch.no_grad()
    def _sentences(self, texts: list[str]) -> Tensor:
        """Unit-length means over the real tokens' last hidden states, N x D."""
        cut = {"padding": True, "truncation": True, "max_length": self.longest_text}
        batch = self.tokenizer(texts, **cut, return_tensors="pt").to(self.device)
        with computed_in(self.precision):
            hidden_NTD = self.text_model(**batch).last_hidden_state.float()
        weight_NT1 = batch["attention_mask"][:, :, None].float()
        return normalize((hidden_NTD * weight_NT1).sum(dim=1) / weight_NT1.sum(dim=1), dim=1)


def load_classifier(path: str, device: torch.device) -> EfficientNet:
    """EfficientNet-Lite0 from local ImageNet weights; input (x - 127) / 128 at 224 px. UserError if they do not fit."""
    file = existing_path(path, "image")
    network = EfficientNet.from_name(NETWORK)
    state, expected = read_state_dict(file, IMAGE_KEY), network.state_dict()
    classes = state.get(LAST_BIAS, expected[LAST_BIAS]).numel()
    problems = f"{classes} classes" if classes != CLASSES else misfits(state, expected)
    if problems:
        raise UserError(
            f"{IMAGE_KEY}: {file} does not hold weights of {NETWORK} ({problems})",
            f"its PyTorch state dict for {CLASSES:,} classes",
            "run fetch_assets again, or correct the path",
        )
    network.load_state_dict(state)
    # Pixels arrive channels last; with the weights in the same layout the CPU is about twice as fast.
    return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def _class_names(path: Path, classes: int) -> list[str]:
    try:
        names = read_dataset_json(path, list[str])
    except UserError as error:
        names, found = [], error.problem
    else:
        found = f"{path} holds {len(names)} names"
    if len(names) != classes:
        raise UserError(
            f"encoder key `class_names`: {found}",
            f"a JSON list of {classes} names in label order",
            "correct the path in `encoders`",
        )
    return names
