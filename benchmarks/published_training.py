"""The published training step, written plainly: what the benchmark compares with and the tests take as reference.

Each pass runs the image encoder and the whole network; the discriminator's pass runs both again after the tokenizer's
update (docs/deviations.md, `train_tokenizer.discriminator_step`). Losses are differentiated by plain autograd.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.models.discriminator import Discriminator
from v2l.models.v2l import V2LNetwork


class PublishedTraining:
    """Both networks with an Adam each; `image_tower` maps pixels to features, `lpips` two images to their distance."""

    def __init__(
        self,
        config: TrainTokenizer,
        tokenizer: V2LNetwork,
        discriminator: Discriminator,
        lpips: nn.Module,
        image_tower: nn.Module,
    ):
        self.config, self.tokenizer, self.discriminator = config, tokenizer.train(), discriminator.train()
        self.lpips, self.image_tower = lpips, image_tower
        trained = [parameter for parameter in tokenizer.parameters() if parameter.requires_grad]
        settings = {"betas": config.betas, "eps": config.epsilon}
        self.optimizers = [torch.optim.Adam(group, **settings) for group in (trained, discriminator.parameters())]

    def forward(self, image_BCHW: Tensor, clip_image_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Image encoder and network once: the reconstruction and the losses that need no discriminator."""
        tokenizer = self.tokenizer
        with torch.no_grad():
            feature_BD = F.normalize(self.image_tower(clip_image_BCHW).float(), dim=1)
            global_BK = (
                torch.cdist(feature_BD, tokenizer.tok_embeddings_global.weight)
                .square()
                .topk(tokenizer.global_tokens, largest=False)
                .indices
            )
        vector_BDHW = F.normalize(tokenizer.quant_conv(tokenizer.encoder(image_BCHW)), dim=1)
        vector_ND = vector_BDHW.permute(0, 2, 3, 1).flatten(0, 2)
        codebook_VD = tokenizer.codebook_projection(tokenizer.tok_embeddings.weight)
        with torch.no_grad():
            distance_NV = vector_ND.square().sum(1, keepdim=True) + codebook_VD.square().sum(1)
            ids_N = (distance_NV - 2 * vector_ND @ codebook_VD.T).argmin(1)
        code_BDHW = codebook_VD[ids_N].view(vector_BDHW.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)
        quantizer = (code_BDHW.detach() - vector_BDHW).square().mean()
        quantizer = quantizer + self.config.loss.codebook * (code_BDHW - vector_BDHW.detach()).square().mean()
        passed_BDHW = vector_BDHW + (code_BDHW - vector_BDHW).detach()
        context_BKD = tokenizer.tok_embeddings_global(global_BK)
        reconstruction_BCHW = tokenizer.decoder(tokenizer.post_quant_conv(passed_BDHW), context_BKD)
        pixel = (reconstruction_BCHW - image_BCHW).abs().mean()
        perceptual = self.lpips(reconstruction_BCHW, image_BCHW).mean()
        return reconstruction_BCHW, {"pixel": pixel, "quantizer": quantizer, "perceptual": perceptual}

    def generator_loss(self, reconstruction_BCHW: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum; adds `adversarial` and `adaptive_weight` to `losses`."""
        weights, last = self.config.loss, self.tokenizer.decoder.conv_out.weight
        content = weights.pixel * losses["pixel"] + weights.perceptual * losses["perceptual"]
        adversarial = -self.discriminator(reconstruction_BCHW).mean()
        norms = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (content, adversarial)]
        weight = (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4).detach()
        losses |= {"adversarial": adversarial, "adaptive_weight": weight}
        return content + weights.quantizer * losses["quantizer"] + weights.adversarial * weight * adversarial

    def step(self, rate: float, image_BCHW: Tensor, clip_image_BCHW: Tensor, rerun: str = "whole") -> dict[str, float]:
        """One update of both networks.

        `rerun`: what the discriminator's pass runs again after the tokenizer's update. whole: image encoder, network
        and losses, through which 0 times their sum is differentiated (released); forward: without that; none: nothing.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            optimizer.param_groups[0]["lr"] = rate
        reconstruction_BCHW, losses = self.forward(image_BCHW, clip_image_BCHW)
        self.generator_loss(reconstruction_BCHW, losses).backward()
        self.optimizers[0].step()
        nothing = torch.zeros(())
        if rerun != "none":
            with torch.set_grad_enabled(rerun == "whole"):
                reconstruction_BCHW, again = self.forward(image_BCHW, clip_image_BCHW)
            nothing = 0 * sum(again.values())
        self.optimizers[1].zero_grad()
        real, fake = self.discriminator(image_BCHW), self.discriminator(reconstruction_BCHW.detach())
        losses["discriminator"] = 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
        (losses["discriminator"] + nothing).backward()
        self.optimizers[1].step()
        return {name: loss.item() for name, loss in losses.items()}
