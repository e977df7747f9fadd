"""The one-factor runs: each change is a setting, and what it is called changes what is trained."""

import pytest

from benchmarks.codebook import CHANGES, EXPERIMENT, changed
from v2l.configuration.experiment import load_experiment

CONFIG = load_experiment({"experiment": EXPERIMENT})


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_changes_what_is_trained(name):
    tokenizer, change = CHANGES[name]
    found, plain = (changed(CONFIG, tokenizer, part, 40, 8, "float32") for part in (change, {}))
    assert (found.max_steps, found.global_batch_size, plain.loss.discriminator_start) == (40, 8, 20)
    assert (found == plain) == (not change)
