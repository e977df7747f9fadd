"""How many steps a training takes, and the learning rate of each."""

import math

import torch

from v2l.configuration.llm_finetuning import FinetuneLLM
from v2l.configuration.tokenizer_training import TrainTokenizer


def steps_on(config: TrainTokenizer, images: int) -> int:
    """Steps of a tokenizer's training on so many images; 0 where they fill no batch and `max_steps` is null."""
    return config.max_steps or config.epochs * (images // config.global_batch_size)


def learning_rate(config: TrainTokenizer | FinetuneLLM, step: int, steps: int) -> float:
    """Rate of `step` of `steps`: linear from 0 over the warm-up, then half a cosine to 0, per step (released)."""
    warmup = config.warmup_share * steps
    if step < warmup:
        return config.learning_rate * step / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let `optimizer` take its next step with `rate`, times `multiple` where a group of parameters has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("multiple", 1.0)
