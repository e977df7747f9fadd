"""CLIP's text transformer on prompts that begin alike: the beginning is computed once, each text only behind it."""

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

KeysAndValues = tuple[Tensor, Tensor]


def pools_causally(model: Any) -> bool:
    """Whether the text feature is read at the end token (the largest id) behind a causal mask."""
    return isinstance(model, open_clip.CLIP) and model.text_pool_type == "argmax" and model.attn_mask is not None


class SharedBeginnings:
    """Text features of an `open_clip.CLIP`. A causal mask keeps what follows out of a beginning's keys and values."""

    def __init__(self, model: open_clip.CLIP):
        self._model = model
        self._known: dict[tuple[int, ...], list[KeysAndValues]] = {}

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether this is the architecture that is computed here."""
        return pools_causally(model) and all(
            type(block) is ResidualAttentionBlock for block in model.transformer.resblocks
        )

    def encode(self, beginning: tuple[int, ...], tail_BT: Tensor, end_B: Tensor) -> Tensor:
        """Features, B x D and not normalised, of `beginning` followed by each tail up to its position `end_B`.

        Where the two are longer than the model's context, the last place takes the end token, as in open_clip.
        """
        if beginning not in self._known:
            ids_1P = torch.tensor([beginning], device=tail_BT.device)
            self._known[beginning] = self._blocks(self._embedded(ids_1P, 0), None, None)[1]
        length = self._model.context_length - len(beginning)
        if tail_BT.shape[1] > length:
            end_token_B1 = tail_BT.gather(1, end_B[:, None])
            end_B = end_B.clamp(max=length - 1)
            tail_BT = tail_BT[:, :length].scatter(1, end_B[:, None], end_token_B1)
        hidden_BTC = self._embedded(tail_BT, len(beginning))
        pooled_BC = self._model.ln_final(self._blocks(hidden_BTC, self._known[beginning], end_B)[0]).squeeze(1)
        projection = self._model.text_projection
        if projection is None:
            return pooled_BC
        return projection(pooled_BC) if isinstance(projection, nn.Linear) else pooled_BC @ projection

    def _embedded(self, ids_BT: Tensor, start: int) -> Tensor:
        dtype = self._model.transformer.get_cast_dtype()
        position_TC = self._model.positional_embedding[start : start + ids_BT.shape[1]]
        return self._model.token_embedding(ids_BT).to(dtype) + position_TC.to(dtype)

    def _blocks(
        self, hidden_BTC: Tensor, past: list[KeysAndValues] | None, end_B: Tensor | None
    ) -> tuple[Tensor, list[KeysAndValues]]:
        """The last block's output, at `end_B` alone if given (B x 1 x C), and each block's own keys and values."""
        blocks = self._model.transformer.resblocks
        own: list[KeysAndValues] = []
        known: Sequence[KeysAndValues | None] = past or [None] * len(blocks)
        for number, (block, before) in enumerate(zip(blocks, known, strict=True), start=1):
            hidden_BTC, kept = _attended(block, hidden_BTC, before, end_B if number == len(blocks) else None)
            own.append(kept)
        return hidden_BTC, own


def _attended(
    block: ResidualAttentionBlock, hidden_BTC: Tensor, before: KeysAndValues | None, end_B: Tensor | None
) -> tuple[Tensor, KeysAndValues]:
    """`ResidualAttentionBlock.forward` with keys and values from `before`; only the positions `end_B`, if given."""
    attention = block.attn
    batch, length, _ = hidden_BTC.shape
    projected_BTC = linear(block.ln_1(hidden_BTC), attention.in_proj_weight, attention.in_proj_bias)
    query_BHTD, key_BHTD, value_BHTD = projected_BTC.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    own = key_BHTD, value_BHTD
    if before is not None:
        key_BHTD, value_BHTD = (
            torch.cat([earlier.expand(batch, -1, -1, -1), later], dim=2)
            for earlier, later in zip(before, own, strict=True)
        )
    total = key_BHTD.shape[2]
    seen_TS = torch.ones(length, total, dtype=torch.bool, device=hidden_BTC.device).tril(total - length)
    if end_B is None:
        seen_BHTS = seen_TS[None, None]
    else:
        row_B = torch.arange(batch, device=hidden_BTC.device)
        hidden_BTC, query_BHTD = hidden_BTC[row_B, end_B][:, None], query_BHTD[row_B, :, end_B][:, :, None]
        seen_BHTS = seen_TS[end_B][:, None, None]
    mixed_BHTD = scaled_dot_product_attention(query_BHTD, key_BHTD, value_BHTD, attn_mask=seen_BHTS)
    hidden_BTC = hidden_BTC + block.ls_1(attention.out_proj(mixed_BHTD.transpose(1, 2).flatten(2)))
    return hidden_BTC + block.ls_2(block.mlp(block.ln_2(hidden_BTC))), own
