"""What is no causal language model, or none that generation can use, is refused at load with the reason."""

import json

import pytest
import torch

from tests.families.architectures import QUANTISED, REFUSED, SUPPORTED
from tests.families.folders import write
from tests.families.reference import entry
from v2l.errors import UserError
from v2l.llm.language_model import load_llm


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    family, message = REFUSED[name]
    with pytest.raises(UserError, match=rf"`llms\.tiny\.path`: .*{message}"):
        load_llm("tiny", entry(write(tmp_path / "model", family)), torch.device("cpu"))


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_weights_are_refused_by_their_kind(name, tmp_path):
    settings, message = QUANTISED[name]
    folder = write(tmp_path / "model", SUPPORTED["Llama"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    with pytest.raises(UserError, match=rf"quantised \({message}\)"):
        load_llm("tiny", entry(folder), torch.device("cpu"))
