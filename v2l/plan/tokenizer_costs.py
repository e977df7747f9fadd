"""What a tokenizer computes: a training step, encoding and decoding, counted on its own network."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from torch import Tensor, nn

from v2l.configuration.tokenizer_entries import LQAEEntry, TokenizerEntry
from v2l.configuration.tokenizer_training import Loss, Network, TrainTokenizer
from v2l.data.geometry import Geometry
from v2l.models.convolutional import ProjectedCodebook
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss, discriminator_hinge, generator_hinge
from v2l.models.lpips_network import empty_lpips
from v2l.models.lqae import LQAETokenizer
from v2l.models.masked_lm import FrozenMaskedLM
from v2l.models.tokenizer_file import tokenizer_class
from v2l.models.vision_tokenizer import Batch, VisionTokenizer
from v2l.plan.pretended import LinearCost, linear_cost, pass_cost, proportional_cost
from v2l.precision import backward_of, computed_in


class CodebookSizes(NamedTuple):
    """Codes of stage filter_vocabulary and their width."""

    subwords: int
    shared: int
    width: int

    def tables(self) -> dict[str, Tensor]:
        """Codebooks of these sizes, all zero."""
        local_VD = torch.zeros(self.subwords, self.width)
        shared_VD = torch.zeros(self.shared, self.width)
        return {"local_VD": local_VD, "global_VD": shared_VD, "subword_global_VD": shared_VD[: self.subwords]}


def untrained(name: str, entry: TokenizerEntry, settings: TrainTokenizer, sizes: CodebookSizes) -> VisionTokenizer:
    """The variant's network; its weights are anything. No file is read but a language model's config.json."""
    if isinstance(entry, LQAEEntry):
        return _lqae(name, entry, settings)
    return tokenizer_class(entry.method).create(name, entry, settings, sizes.tables())


class TokenizerCosts:
    """Costs of one tokenizer under the settings of its variant; `width` is that of image features."""

    def __init__(self, tokenizer: VisionTokenizer, settings: TrainTokenizer, width: int):
        self.tokenizer, self.settings, self.width = tokenizer, settings, width

    @property
    def trained_parameters(self) -> int:
        """Parameters that training moves, of generator and discriminator."""
        networks: list[nn.Module] = [self.tokenizer]
        if self.settings.loss.adversarial:
            networks.append(_critics(self.settings.network.model_dump_json())[1])
        return sum(_count(network, True) for network in networks)

    @property
    def frozen_parameters(self) -> int:
        """Codebooks, a language model's weights, and VGG16's for LPIPS."""
        perceptual: list[nn.Module] = (
            [_critics(self.settings.network.model_dump_json())[0]] if self.settings.loss.perceptual else []
        )
        return sum(_count(network, False) for network in [self.tokenizer, *perceptual])

    @property
    def parameters(self) -> int:
        """All parameters of the tokenizer."""
        return _count(self.tokenizer, True) + _count(self.tokenizer, False)

    def generator(self) -> LinearCost:
        """Forward pass and its backward pass, from image to image."""
        counted = linear_cost if isinstance(self.tokenizer, ProjectedCodebook) else proportional_cost
        return counted(self._generator_pass, self.tokenizer)

    def critics(self) -> LinearCost:
        """LPIPS and discriminator in the generator's step, and the discriminator's own step."""
        settings = self.settings
        return _critic_cost(settings.network.model_dump_json(), settings.loss.model_dump_json(), settings.precision)

    def forward_flops(self, images: int) -> float:
        """FLOPs of the training's forward pass alone."""
        return pass_cost(lambda: self._forward(images)).flops

    def match_flops(self, images: int) -> float:
        """FLOPs of matching the codes to `images`."""
        return pass_cost(lambda: self.tokenizer.match_moments(self._images(images))).flops

    def encode_flops(self, images: int) -> float:
        """FLOPs of encoding a batch."""
        return pass_cost(lambda: self.tokenizer.encode(self._images(images), torch.zeros(images, self.width))).flops

    def decode_flops(self, images: int) -> float:
        """FLOPs of decoding a batch."""

        def run() -> None:
            local_BL = torch.zeros(images, self.positions, dtype=torch.int64)
            global_BK = torch.zeros(images, self.tokenizer.global_tokens, dtype=torch.int64)
            with torch.no_grad():
                self.tokenizer.decode(local_BL, global_BK if self.tokenizer.has_global else None)

        return pass_cost(run).flops

    @property
    def positions(self) -> int:
        """Local tokens of an image."""
        return self.tokenizer.geometry.grid**2

    def _images(self, images: int) -> Tensor:
        side = self.tokenizer.geometry.image_size
        return torch.zeros(images, 3, side, side)

    def _forward(self, images: int) -> tuple[Tensor, list[Tensor]]:
        feature_BD, noise_BL = torch.zeros(images, self.width), torch.zeros(images, self.positions)
        global_BK = torch.zeros(images, self.tokenizer.global_tokens, dtype=torch.int64)
        batch = Batch(self._images(images), feature_BD, noise_BL, global_BK)
        with computed_in(self.settings.precision), self.tokenizer.codes_fixed():
            output_BCHW, losses, _ = self.tokenizer.train()(batch, self.settings.loss)
        return output_BCHW, [loss for loss in losses.values() if loss.requires_grad]

    def _generator_pass(self, images: int) -> None:
        with computed_in(backward_of(self.settings.precision)):
            output_BCHW, losses = self._forward(images)
            torch.autograd.backward([output_BCHW, *losses], [torch.zeros_like(output_BCHW), *[None] * len(losses)])


@cache  # variants share them
def _critic_cost(network: str, weights: str, precision: str) -> LinearCost:
    """Of the network and loss sections, as JSON; as `v2l.training.trainer` does it behind the generator's output."""
    (perceptual, discriminator), loss = _critics(network), Loss.model_validate_json(weights)
    side = Network.model_validate_json(network).image_size

    def run(images: int) -> None:
        image_BCHW = torch.zeros(images, 3, side, side)
        output_BCHW = torch.zeros(images, 3, side, side, requires_grad=True)
        with computed_in(precision):
            if loss.perceptual:
                torch.autograd.grad(perceptual(output_BCHW, image_BCHW), output_BCHW)
            if loss.adversarial:
                torch.autograd.grad(generator_hinge(discriminator(output_BCHW).float()), output_BCHW)
                logits = discriminator(image_BCHW), discriminator(output_BCHW.detach())
        if loss.adversarial:
            discriminator_hinge(*(part.float() for part in logits)).backward()

    return proportional_cost(run, perceptual, discriminator)


@cache
def _critics(network: str) -> tuple[PerceptualLoss, Discriminator]:
    """LPIPS and discriminator of a network section, as JSON."""
    perceptual = PerceptualLoss(empty_lpips("vgg", "meta").to_empty(device="cpu"))
    return perceptual, Discriminator(Network.model_validate_json(network))


def _count(network: nn.Module, trained: bool) -> int:
    return sum(value.numel() for value in network.parameters() if value.requires_grad == trained)


def _lqae(name: str, entry: LQAEEntry, settings: TrainTokenizer) -> LQAETokenizer:
    """As `LQAETokenizer.create`, without the language model's weights; RoBERTa-base where its folder is not there."""
    folder, network = Path(entry.language_model), settings.network
    has_config = (folder / "config.json").exists()
    config = (
        transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if has_config
        else transformers.RobertaConfig()
    )
    named = getattr(config, "architectures", None) or ["ForMaskedLM"]
    has_head = any(architecture.endswith("ForMaskedLM") for architecture in named)
    kind = transformers.AutoModelForMaskedLM if has_head else transformers.AutoModel
    grid = network.image_size // entry.patch_size
    geometry = Geometry(image_size=network.image_size, resize_via=network.resize_via, grid=grid)
    with torch.device("meta"):
        language_model = FrozenMaskedLM(kind.from_config(config, trust_remote_code=False), has_head, mask_id=0)
        tokenizer = LQAETokenizer(name, geometry, entry, language_model)
    tokenizer.to_empty(device="cpu").language_model.model.tie_weights()
    return tokenizer
