"""One optimisation step of tokenizer and discriminator, and everything a checkpoint must hold of them."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import reduce
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss, adaptive_weight, discriminator_hinge, generator_hinge
from v2l.models.vision_tokenizer import Batch, VisionTokenizer
from v2l.precision import backward_of, computed_in
from v2l.training.compilation import compile_parts
from v2l.training.ranks import Ranks, share_statistics
from v2l.training.schedule import learning_rate, set_learning_rate
from v2l.training.unread_losses import Losses


class Adversary(NamedTuple):
    """A discriminator and its optimizer."""

    network: Discriminator
    optimizer: torch.optim.Optimizer


class Trainer:
    """Both networks with their AdamW optimizers; `step` takes this rank's share of one batch.

    Without adversarial loss there is no discriminator, without perceptual loss no LPIPS network. Unless it `matches`,
    the codes are never matched, whatever the settings: they come from an earlier training.
    """

    def __init__(
        self,
        config: TrainTokenizer,
        tokenizer: VisionTokenizer,
        discriminator: Discriminator | None,
        perceptual: PerceptualLoss | None,
        steps: int,
        ranks: Ranks | None = None,
        matches: bool = True,
    ):
        self.config, self.steps, self.ranks, self.matches = config, steps, ranks or Ranks(), matches
        self.tokenizer, self.perceptual = tokenizer.train(), perceptual
        self.generator_optimizer = self._optimizer(self._generator_groups())
        self.average: AveragedModel | None = None
        self.has_average = False  # of a step
        if config.average_decay:
            self.average = AveragedModel(tokenizer)
            self.add_to_average = get_ema_multi_avg_fn(config.average_decay)
        self.adversary: Adversary | None = None
        if discriminator is not None:
            groups = [{"params": list(discriminator.parameters()), "multiple": config.discriminator_learning_rate}]
            self.adversary = Adversary(discriminator.train(), self._optimizer(groups))
        if config.rank_statistics == "all":
            for network in filter(None, (tokenizer, discriminator)):
                share_statistics(network, self.ranks)
        self.generator: VisionTokenizer | DistributedDataParallel = tokenizer
        if config.compile:
            # not as a whole: the adaptive weight's gradients, at the last layer, would take two more passes through it
            compile_parts([*tokenizer.compiled_parts, *filter(None, (perceptual, discriminator))])
        if self.ranks.size > 1:
            where = [torch.cuda.current_device()] if torch.cuda.is_available() else None
            self.generator = DistributedDataParallel(self.generator, device_ids=where, broadcast_buffers=False)

    def step(self, step: int, batch: Batch) -> tuple[Losses, Tensor]:
        """Update the tokenizer, then (once it has started) the discriminator.

        `step` counts from 0. Returns the losses of this step over all ranks and this rank's local ids_BL, which stay
        on the device: only a match of the codebook waits for it.
        """
        with computed_in(backward_of(self.config.precision)):
            return self._step(step, batch)

    def _step(self, step: int, batch: Batch) -> tuple[Losses, Tensor]:
        rate = learning_rate(self.config, step, self.steps)
        set_learning_rate(self.generator_optimizer, rate)
        if self.adversary:
            set_learning_rate(self.adversary.optimizer, rate)
        if self.is_matched(step):
            self.match_moments(batch.image_BCHW)
        adversary = self.adversary if step > self.config.loss.discriminator_start else None
        reconstruction_BCHW, ids_BL, losses = self._step_generator(batch, adversary)
        if adversary:
            if self.config.discriminator_step == "rerun":
                with torch.no_grad(), computed_in(self.config.precision):
                    reconstruction_BCHW = self.tokenizer(batch, self.config.loss).image_BCHW
            losses["discriminator"] = self._step_discriminator(adversary, batch.image_BCHW, reconstruction_BCHW)
        if self.average:
            self._update_average(self.average)
        values = self.ranks.mean(torch.stack([value.detach().float() for value in losses.values()]))
        return dict(zip(losses, values.unbind(), strict=True)) | {"learning_rate": rate}, ids_BL

    def is_matched(self, step: int) -> bool:
        """Whether the codebook is matched to the encoder's outputs before `step`."""
        if not self.matches or self.config.projector_init != "match-moments":
            return False
        return step % self.config.match_every == 0 and step <= self.config.match_until * self.steps

    @property
    def result(self) -> VisionTokenizer:
        """The tokenizer with the weights that are kept: the moving average's, or the last step's."""
        return cast(VisionTokenizer, self.average.module) if self.average else self.tokenizer

    def match_moments(self, image_BCHW: Tensor) -> None:
        """Match the codebook to the encoder's outputs and forget Adam's averages of what was replaced."""
        with computed_in(self.config.precision):
            replaced = self.tokenizer.match_moments(image_BCHW, self.ranks.gather)
        for parameter in replaced:
            self.generator_optimizer.state.pop(parameter, None)

    def _step_generator(self, batch: Batch, adversary: Adversary | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        self.generator_optimizer.zero_grad(set_to_none=True)
        with self.tokenizer.codes_fixed():
            parts = [self._backward(part, share, adversary) for part, share in self._micro_batches(batch)]
        self.generator_optimizer.step()
        losses = {name: reduce(torch.add, [found[name] for _, _, found in parts]) for name in parts[0][2]}
        return torch.cat([image for image, _, _ in parts]), torch.cat([ids for _, ids, _ in parts]), losses

    def _backward(
        self, batch: Batch, share: float, adversary: Adversary | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Forward and backward of a micro-batch: (reconstruction_BCHW, ids_BL, its `share` of each loss)."""
        weights = self.config.loss
        with computed_in(self.config.precision):
            output_BCHW, own, ids_BL = self.generator(batch, weights)
        # The losses on the image are differentiated up to the image once; the adaptive weight needs only one more
        # convolution from there, and the network's backward pass runs once, with the weighted sum.
        reconstruction_BCHW = output_BCHW.detach().requires_grad_()
        difference = reconstruction_BCHW - batch.image_BCHW
        pixel = difference.abs().mean() if weights.pixel_norm == "l1" else difference.square().mean()
        losses, content = {"pixel": pixel} | own, weights.pixel * pixel
        if self.perceptual:
            with computed_in(self.config.precision):
                losses["perceptual"] = self.perceptual(reconstruction_BCHW, batch.image_BCHW)
            content = content + weights.perceptual * losses["perceptual"]
        (gradient_BCHW,) = torch.autograd.grad(content, reconstruction_BCHW)
        if adversary:
            with computed_in(self.config.precision):
                adversarial = generator_hinge(adversary.network(reconstruction_BCHW).float())
            (adversarial_BCHW,) = torch.autograd.grad(adversarial, reconstruction_BCHW)
            weight = self._adaptive_weight(output_BCHW, gradient_BCHW, adversarial_BCHW)
            gradient_BCHW = gradient_BCHW + weights.adversarial * weight * adversarial_BCHW
            losses |= {"adversarial": adversarial, "adaptive_weight": weight}
        weighted = [share * getattr(weights, name) * loss for name, loss in own.items() if loss.requires_grad]
        torch.autograd.backward([output_BCHW, *weighted], [share * gradient_BCHW, *[None] * len(weighted)])
        return reconstruction_BCHW.detach(), ids_BL, {name: share * loss.detach() for name, loss in losses.items()}

    def _adaptive_weight(self, output_BCHW: Tensor, content_BCHW: Tensor, adversarial_BCHW: Tensor) -> Tensor:
        last = self.tokenizer.last_layer
        gradients = [
            torch.autograd.grad(output_BCHW, last, gradient, retain_graph=True)[0]
            for gradient in (content_BCHW, adversarial_BCHW)
        ]
        if self.config.rank_statistics == "all":
            gradients = list(self.ranks.mean(torch.stack(gradients)))
        return adaptive_weight(*gradients)

    def _step_discriminator(self, adversary: Adversary, image_BCHW: Tensor, reconstruction_BCHW: Tensor) -> Tensor:
        adversary.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=image_BCHW.device)
        size = self.config.micro_batch_size or len(image_BCHW)
        for image, fake in zip(image_BCHW.split(size), reconstruction_BCHW.split(size), strict=True):
            with computed_in(self.config.precision):
                logits = adversary.network(image), adversary.network(fake)
            loss = len(image) / len(image_BCHW) * discriminator_hinge(*(part.float() for part in logits))
            loss.backward()
            total += loss.detach()
        self.ranks.average_gradients(adversary.network.parameters())
        adversary.optimizer.step()
        return total

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        """Parts of at most `micro_batch_size` images with their share; ranks exchange gradients at the last alone."""
        images = len(batch.image_BCHW)
        size = self.config.micro_batch_size or images
        for start in range(0, images, size):
            part = batch.part(slice(start, start + size))
            is_last = start + size >= images
            whole = self.generator
            with nullcontext() if is_last or not isinstance(whole, DistributedDataParallel) else whole.no_sync():
                yield part, len(part.image_BCHW) / images

    @torch.no_grad()
    def _update_average(self, average: AveragedModel) -> None:
        """As `AveragedModel.update_parameters`, which asks the device at every step whether it is the first."""
        kept: list[Tensor] = list(average.module.parameters())
        newest: list[Tensor] = list(self.tokenizer.parameters())
        if self.has_average:
            self.add_to_average(kept, newest, average.n_averaged)
        else:
            torch._foreach_copy_(kept, newest)
        for buffer, source in zip(average.module.buffers(), self.tokenizer.buffers(), strict=True):
            buffer.copy_(source)
        average.n_averaged += 1
        self.has_average = True

    def _generator_groups(self) -> list[dict[str, Any]]:
        projector = self.tokenizer.projector_parameters
        held = {id(parameter) for parameter in projector}
        others = [value for value in self.tokenizer.parameters() if value.requires_grad and id(value) not in held]
        groups: list[dict[str, Any]] = [{"params": others}]
        return groups + [{"params": projector, "multiple": self.config.projector_learning_rate}] * bool(projector)

    def _optimizer(self, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.AdamW(
            parameters,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        parts: dict[str, nn.Module | torch.optim.Optimizer] = {
            "tokenizer": self.tokenizer,
            "generator_optimizer": self.generator_optimizer,
        }
        if self.average:
            parts["average"] = self.average
        if self.adversary:
            parts |= {"discriminator": self.adversary.network, "discriminator_optimizer": self.adversary.optimizer}
        return parts

    def state_dict(self) -> dict:
        """Everything that the next step depends on; random numbers are drawn from seed, step and rank alone."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken, also with another number of ranks."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.has_average = bool(self.average and self.average.n_averaged)
