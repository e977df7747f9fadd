"""One optimisation step of a language model's adapter on masked token maps, and what a checkpoint must hold of it.

Shape suffixes: M images of a micro-batch, L map positions, T prompt ids, V codes.
"""

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor

from v2l.configuration.llm_finetuning import FinetuneLLM
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.llm.model_facts import context_of
from v2l.llm.prompts import MaskedPrompt
from v2l.runtime import rng
from v2l.tasks.token_maps import random_mask
from v2l.training.schedule import learning_rate, set_learning_rate


class AdapterTuner:
    """A model with adapters and their optimizer; `ids_V` are the model's ids of the codes."""

    def __init__(self, section: FinetuneLLM, model: PeftModel, prompt: MaskedPrompt, ids_V: np.ndarray):
        self.section, self.model, self.prompt, self.ids_V = section, model, prompt, ids_V
        self.columns_V = torch.from_numpy(ids_V).to(model.device)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=section.learning_rate, betas=section.betas, weight_decay=section.weight_decay
        )

    def require_context(self, tokens: Tokens) -> None:
        """Raise UserError if a map and its repetition exceed the model's context; all prompts are equally long."""
        length = len(self._ids(tokens.local_NL[0], np.zeros_like(tokens.local_NL[0], dtype=bool)))
        context = context_of(self.model.config.to_dict())
        if context is not None and length > context:
            raise UserError(
                f"the prompt of image {tokens.image_id[0]} has {length} tokens",
                f"at most {context}, the context of {self.model.config.name_or_path or 'the language model'}",
                MaskedPrompt.REMEDY,
            )

    def step(self, step: int, local_BL: np.ndarray, seed: int) -> dict[str, float]:
        """One update on the codes of a batch; masks and dropout come from seed and step alone."""
        generator = rng(seed, "finetuning step", step)
        torch.manual_seed(int(generator.integers(2**63)))
        length = local_BL.shape[1]
        masked_BL = np.stack([random_mask(length, self.section.mask_share, generator) for _ in local_BL])
        rate = learning_rate(self.section, step, self.section.steps)
        set_learning_rate(self.optimizer, rate)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = right = 0.0
        for rows in self._micro_batches(len(local_BL)):
            part, hits = self._loss(local_BL[rows], masked_BL[rows])
            (part / masked_BL.sum()).backward()
            loss, right = loss + part.item(), right + hits
        norm = torch.nn.utils.clip_grad_norm_(self.trained, self.section.max_gradient_norm)
        self.optimizer.step()
        count = int(masked_BL.sum())
        return {"loss": loss / count, "accuracy": right / count, "gradient_norm": norm.item(), "learning_rate": rate}

    @torch.no_grad()
    def measure(self, local_NL: np.ndarray, masked_NL: np.ndarray) -> dict[str, float]:
        """Loss and accuracy of masked tokens when everything before each of them is given."""
        self.model.eval()
        parts = [self._loss(local_NL[rows], masked_NL[rows]) for rows in self._micro_batches(len(local_NL))]
        loss, right = sum(part.item() for part, _ in parts), sum(hits for _, hits in parts)
        return {"held_out_loss": loss / masked_NL.sum(), "held_out_accuracy": right / masked_NL.sum()}

    def _loss(self, local_ML: np.ndarray, masked_ML: np.ndarray) -> tuple[Tensor, int]:
        """Summed cross entropy of the masked codes among all codes, and how many are the likeliest."""
        prompts = [self._ids(local_L, masked_L) for local_L, masked_L in zip(local_ML, masked_ML, strict=True)]
        token_MT = torch.tensor(prompts, device=self.model.device)
        # the id at a position is predicted by the output before it: the last L outputs but one are the second map's
        length = local_ML.shape[1]
        logits_MLV = self.model(input_ids=token_MT[:, :-1], use_cache=False, logits_to_keep=length).logits
        where_ML = torch.from_numpy(masked_ML).to(logits_MLV.device)
        logits_NV = logits_MLV[where_ML][:, self.columns_V].float()
        target_N = torch.from_numpy(local_ML[masked_ML]).to(logits_NV.device)
        hits = (logits_NV.argmax(1) == target_N).sum()
        return F.cross_entropy(logits_NV, target_N, reduction="sum"), int(hits)

    def _ids(self, local_L: np.ndarray, masked_L: np.ndarray) -> list[int]:
        return self.prompt.ids(self.ids_V[local_L], masked_L, len(local_L))

    def _micro_batches(self, images: int) -> list[slice]:
        size = self.section.micro_batch_size
        return [slice(start, start + size) for start in range(0, images, size)]

    def state_dict(self) -> dict:
        """Adapters and optimizer."""
        return {"adapter": get_peft_model_state_dict(self.model), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        set_peft_model_state_dict(self.model, state["adapter"])
        self.optimizer.load_state_dict(state["optimizer"])
