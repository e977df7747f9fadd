"""What a training step reads, on its device: images, and of the rest what the tokenizer needs."""

import logging

import numpy as np
import torch
from torch import Tensor

from v2l.data.images import to_float
from v2l.io.overlap import sent
from v2l.models.vision_tokenizer import Batch, VisionTokenizer
from v2l.runtime import rng
from v2l.training.ranks import Ranks
from v2l.training.trainer import Trainer

FEATURES_AT_ONCE = 2**14


class TrainingBatches:
    """This rank's batches for `trainer`, whose image i has the feature `feature_ND[i]`.

    Features do not change, nor do the codes that global ids point to: these are found once, before the first step.
    """

    def __init__(self, trainer: Trainer, feature_ND: Tensor, seed: int):
        self.config, self.ranks, self.seed = trainer.config, trainer.ranks, seed
        self.device = next(trainer.tokenizer.parameters()).device
        self.positions = trainer.tokenizer.geometry.grid**2
        self.reads = trainer.tokenizer.reads(self.config.loss)
        self.feature_ND = feature_ND if "feature_BD" in self.reads else None
        self.global_ids_NK = None
        if "global_ids_BK" in self.reads:
            self.global_ids_NK = all_global_ids(trainer.tokenizer, feature_ND, self.device, self.ranks)

    def batch(self, step: int, pixels_BCHW: Tensor, index_B: Tensor) -> Batch:
        """The batch of `step` of images in 0..255; random numbers come from seed, step and place in it alone."""
        torch.manual_seed(int(rng(self.seed, "training step", step, self.ranks.rank).integers(2**63)))
        noise_BL = global_ids_BK = None
        if "noise_BL" in self.reads:
            shape = self.config.global_batch_size, self.positions
            noise = rng(self.seed, "training noise", step).random(shape, dtype=np.float32)
            noise_BL = sent(torch.from_numpy(noise[self.ranks.rank :: self.ranks.size]), self.device)
        if self.global_ids_NK is not None:
            global_ids_BK = sent(self.global_ids_NK[index_B], self.device).long()
        feature_BD = None if self.feature_ND is None else sent(self.feature_ND[index_B], self.device)
        return Batch(to_float(sent(pixels_BCHW, self.device)), feature_BD, noise_BL, global_ids_BK)


def all_global_ids(tokenizer: VisionTokenizer, feature_ND: Tensor, device: torch.device, ranks: Ranks) -> Tensor:
    """The global ids of every image (int32 NK, on the CPU); each rank finds its share."""
    logging.info("%s: finding the global ids of %d images", tokenizer.name, len(feature_ND))
    share = -(-len(feature_ND) // ranks.size)
    mine_N = (torch.arange(share) * ranks.size + ranks.rank).clamp(max=len(feature_ND) - 1)
    parts = [tokenizer.global_ids(feature_ND[rows].to(device)).int().cpu() for rows in mine_N.split(FEATURES_AT_ONCE)]
    return ranks.gather(torch.cat(parts))[: len(feature_ND)]
