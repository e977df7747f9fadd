"""Stages of the vocabulary: embed_vocabulary and filter_vocabulary."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.encoders import TINY, as_published, random_clip, random_encoder
from benchmarks.measuring import Case, cosine, counted, equal_share
from benchmarks.sizes import Sizes
from v2l.configuration.config import EmbedVocabulary
from v2l.encoders.prompt_templates import prompt_templates
from v2l.encoders.text_embedding import embed_texts
from v2l.filter_vocabulary import IMAGES_AT_ONCE, top_entries
from v2l.runtime import rng

TOP_K = 5
FILTER_BATCH = IMAGES_AT_ONCE


def embed_vocabulary(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """Entries in CLIP's templates; published: one entry at a time, all its templates as a batch."""
    model = as_published(random_clip(sizes, where, folder), where)
    tokenizer = open_clip.get_tokenizer(sizes.clip if isinstance(sizes.clip, str) else TINY)
    templates = prompt_templates("imagenet-80")[: sizes.templates]
    texts = _entries(tokenizer, sizes.entries.own)
    size = EmbedVocabulary().batch_size

    @torch.no_grad()
    def published() -> Tensor:
        rows = []
        for text in texts[: sizes.entries.published]:
            ids_TL = tokenizer([template(text) for template in templates]).to(where)
            rows.append(F.normalize(model.encode_text(ids_TL).float(), dim=1).mean(0).cpu())
        return torch.stack(rows)

    few = texts[:8]
    for precision in sizes.encoder_precisions:
        encoder = random_encoder(sizes, where, folder, precision)
        yield Case(
            *("embed_vocabulary", precision, "texts"),
            own=lambda encoder=encoder: embed_texts(encoder, texts, templates, size),
            items=len(texts) * len(templates),
            published=published,
            published_items=sizes.entries.published * len(templates),
            flop=lambda encoder=encoder: (
                counted(lambda: embed_texts(encoder, few, templates, size)) / (len(few) * len(templates))
            ),
            agreement=cosine,
            sizes={"model": sizes.clip, "templates": len(templates), "batch": size},
        )


def filter_vocabulary(sizes: Sizes, where: torch.device, folder: Path) -> Iterator[Case]:
    """The entries that each image chooses; published: product and top-k of a batch, equals in any order."""
    yield filter_case(sizes, where, sizes.filtered.own, sizes.filtered.published)


def filter_case(sizes: Sizes, where: torch.device, images: int, published_images: int) -> Case:
    """The case for so many images."""
    generator = torch.Generator().manual_seed(0)
    embedding_VD, feature_ND = (
        F.normalize(torch.randn(rows, sizes.feature_width, generator=generator), dim=1)
        for rows in (sizes.vocabulary, images)
    )
    batches = [np.arange(start, min(start + FILTER_BATCH, images)) for start in range(0, images, FILTER_BATCH)]

    def own() -> Tensor:
        found = np.concatenate(list(top_entries(embedding_VD, feature_ND, batches, TOP_K)))
        return torch.from_numpy(found).view(-1, TOP_K).sort(dim=1).values

    def published() -> Tensor:
        embedding_DV = embedding_VD.to(where).T
        parts = feature_ND[:published_images].split(FILTER_BATCH)
        found = [(part.to(where) @ embedding_DV).topk(TOP_K, dim=1).indices.cpu() for part in parts]
        return torch.cat(found).sort(dim=1).values

    return Case(
        *("filter_vocabulary", "float32", "images"),
        own=own,
        items=images,
        published=published,
        published_items=published_images,
        flop=lambda: 2.0 * sizes.vocabulary * sizes.feature_width,
        agreement=equal_share,
        bytes_per_item=2.0 * 4 * sizes.vocabulary,  # the scores, written and read once
        sizes={"entries": sizes.vocabulary, "width": sizes.feature_width, "batch": FILTER_BATCH},
    )


def _entries(tokenizer: open_clip.SimpleTokenizer, count: int) -> list[str]:
    """Texts of one to three of the tokenizer's words, as subwords, bigrams and trigrams are."""
    words = sorted(word[:-4] for word in tokenizer.encoder if word.endswith("</w>") and word[:-4].isalpha())
    numbers = rng(0, "benchmark entries")
    chosen = {" ".join(numbers.choice(words, 1 + number % 3)) for number in range(2 * count)}
    return sorted(chosen)[:count]
