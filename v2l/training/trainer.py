"""One optimisation step of tokenizer and discriminator, and everything a checkpoint must hold of them."""

import math

import torch
from torch import Tensor, nn

from v2l.config import TrainTokenizer
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss, adaptive_weight, discriminator_hinge, generator_hinge
from v2l.models.tokenizer import VisionTokenizer


def learning_rate(config: TrainTokenizer, step: int, steps: int) -> float:
    """Rate of `step` of `steps`: linear from 0 over the warm-up, then half a cosine to 0, per step (released)."""
    warmup = config.warmup_share * steps
    if step < warmup:
        return config.learning_rate * step / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Trainer:
    """Both networks with their Adam optimizers; `step` takes one batch."""

    def __init__(
        self,
        config: TrainTokenizer,
        tokenizer: VisionTokenizer,
        discriminator: Discriminator,
        perceptual: PerceptualLoss | None,
        steps: int,
    ):
        self.config, self.steps = config, steps
        self.tokenizer, self.discriminator, self.perceptual = tokenizer.train(), discriminator.train(), perceptual
        trained = [parameter for parameter in tokenizer.parameters() if parameter.requires_grad]
        settings = {"lr": config.learning_rate, "betas": config.betas, "eps": config.epsilon, "fused": True}
        self.generator_optimizer = torch.optim.Adam(trained, **settings)
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), **settings)

    def step(self, step: int, image_BCHW: Tensor, global_ids_BK: Tensor | None) -> tuple[dict[str, float], Tensor]:
        """Update the tokenizer, then (once it has started) the discriminator on the same reconstructions.

        `step` counts from 0. Returns the losses of this step and the local ids_BL.
        """
        rate = learning_rate(self.config, step, self.steps)
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = rate
        if self.config.projector_init == "match-moments" and step in self.config.match_steps:
            self.match_moments(image_BCHW)
        reconstruction_BCHW, ids_BL, losses = self._step_generator(step, image_BCHW, global_ids_BK)
        if step > self.config.loss.discriminator_start:
            losses["discriminator"] = self._step_discriminator(image_BCHW, reconstruction_BCHW)
        return {name: float(value.detach()) for name, value in losses.items()} | {"learning_rate": rate}, ids_BL

    def match_moments(self, image_BCHW: Tensor) -> None:
        """Match the codebook to the encoder's outputs and forget Adam's averages of what was replaced."""
        with self._autocast(image_BCHW):
            replaced = self.tokenizer.match_moments(image_BCHW)
        for parameter in replaced:
            self.generator_optimizer.state.pop(parameter, None)

    def _step_generator(self, step: int, image_BCHW: Tensor, global_ids_BK: Tensor | None):
        weights = self.config.loss
        with self._autocast(image_BCHW):
            output_BCHW, quantizer, ids_BL = self.tokenizer(image_BCHW, global_ids_BK, weights.codebook)
        # The losses on the image are differentiated up to the image once; the adaptive weight needs only one more
        # convolution from there, and the network's backward pass runs once, with the weighted sum.
        reconstruction_BCHW = output_BCHW.detach().requires_grad_()
        pixel = (reconstruction_BCHW - image_BCHW).abs().mean()
        losses, content = {"pixel": pixel, "quantizer": quantizer}, weights.pixel * pixel
        if self.perceptual:
            with self._autocast(image_BCHW):
                losses["perceptual"] = self.perceptual(reconstruction_BCHW, image_BCHW)
            content = content + weights.perceptual * losses["perceptual"]
        (gradient_BCHW,) = torch.autograd.grad(content, reconstruction_BCHW)
        if step > weights.discriminator_start:
            with self._autocast(image_BCHW):
                adversarial = generator_hinge(self.discriminator(reconstruction_BCHW).float())
            (adversarial_gradient_BCHW,) = torch.autograd.grad(adversarial, reconstruction_BCHW)
            last = self.tokenizer.decoder.conv_out.weight
            content_last, adversarial_last = (
                torch.autograd.grad(output_BCHW, last, gradient, retain_graph=True)[0]
                for gradient in (gradient_BCHW, adversarial_gradient_BCHW)
            )
            weight = adaptive_weight(content_last, adversarial_last)
            gradient_BCHW = gradient_BCHW + weights.adversarial * weight * adversarial_gradient_BCHW
            losses |= {"adversarial": adversarial, "adaptive_weight": weight}
        self.generator_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([output_BCHW, weights.quantizer * quantizer], [gradient_BCHW, None])
        self.generator_optimizer.step()
        return reconstruction_BCHW.detach(), ids_BL, losses

    def _step_discriminator(self, image_BCHW: Tensor, reconstruction_BCHW: Tensor) -> Tensor:
        with self._autocast(image_BCHW):
            real, fake = self.discriminator(image_BCHW), self.discriminator(reconstruction_BCHW)
        loss = discriminator_hinge(real.float(), fake.float())
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimizer.step()
        return loss

    def _autocast(self, image_BCHW: Tensor) -> torch.autocast:
        return torch.autocast(image_BCHW.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {
            "tokenizer": self.tokenizer,
            "discriminator": self.discriminator,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }

    def state_dict(self) -> dict:
        """Everything that the next step depends on."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {"random": torch.get_rng_state()}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
