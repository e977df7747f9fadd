"""docs/deviations.md names keys that exist."""

import re
from pathlib import Path

import pytest

from v2l.config import Config

KEYS = re.findall(r"^\| `([a-z_.]+)` \|", Path("docs/deviations.md").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("key", KEYS)
def test_documented_key_exists(key):
    model = Config
    for step in key.split("."):
        assert step in model.model_fields, f"{key}: {step} is no key of {model.__name__}"
        model = model.model_fields[step].annotation


def test_loss_weights_on_which_paper_and_code_disagree_are_documented():
    assert {
        "train_tokenizer.loss.perceptual",
        "train_tokenizer.loss.adversarial",
        "filter_vocabulary.min_count",
    } <= set(KEYS)
