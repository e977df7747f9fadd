"""Predictors without a language model, and images that no prediction made: what a number owes to the input itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from v2l.configuration.registry import Registry

DECODED = "upper bound: the clean image's own tokens, decoded"


@dataclass(frozen=True)
class Use:
    """A baseline in one task: the note of its rows, whether it reads a tokenizer's tokens, its label in figures if it
    has one of its own there."""

    note: str
    reads_tokens: bool = True
    label: str = ""


@dataclass(frozen=True)
class Baseline:
    """`label` names it in figures; `uses` are its tasks. One that `predicts` gives answers, others are images."""

    label: str
    uses: Mapping[str, Use]
    predicts: bool = True
    reads_features: bool = False


BASELINES: Registry[Baseline] = Registry(
    "baseline",
    {
        "token-overlap": Baseline(
            "token overlap",
            {
                "classification": Use("no language model: nearest support image by token overlap"),
                "captioning": Use(
                    "captioning by no language model: the caption of the example with the nearest tokens"
                ),
                "vqa": Use("vqa by no language model: the answer of the example with the nearest tokens and question"),
            },
        ),
        "clip-prototype": Baseline(
            "nearest prototype",
            {"classification": Use("image features: no tokens and no language model", reads_tokens=False)},
            reads_features=True,
        ),
        "majority-vote": Baseline(
            "majority vote",
            {
                "restoration": Use("no language model: the commonest token of the examples"),
                "vqa": Use("vqa by no language model: the commonest answer of the examples", reads_tokens=False),
            },
        ),
        "most-frequent-code": Baseline(
            "most frequent code", {"masked": Use("no language model: the commonest visible token of the image")}
        ),
        "tokenizer-oracle": Baseline(
            "tokenizer oracle", {"restoration": Use(DECODED), "masked": Use(DECODED)}, predicts=False
        ),
        "corrupted-input": Baseline(
            "corrupted input",
            {
                "restoration": Use("lower bound: the corrupted image itself", reads_tokens=False, label="input"),
                "masked": Use("lower bound: zero vectors in place of the masked tokens, decoded", label="input"),
            },
            predicts=False,
        ),
        "mean-image": Baseline(
            "mean image",
            {"reconstruction": Use("lower bound: the mean training image for every image", reads_tokens=False)},
            predicts=False,
        ),
    },
)
