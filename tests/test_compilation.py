"""What `train_tokenizer.compile` compiles: each kind of block once, whatever the number of blocks."""

import os
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters

from tests.test_models import GLOBAL_VD, LOSS, NETWORK, images, make
from v2l.models.vision_tokenizer import Batch
from v2l.training.compilation import compile_parts, keep_compiled


@pytest.fixture
def fresh_compiler(monkeypatch) -> Iterator[None]:
    """Graphs are captured and differentiated as on a GPU; only generating code, which takes minutes, is left out."""
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part, **how: compile_with(part, backend="aot_eager", **how))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def test_blocks_of_one_kind_share_a_graph_and_none_is_left_out(fresh_compiler):
    tokenizer = make("v2l", NETWORK.model_copy(update={"image_size": 32, "residual_blocks": 3}))
    batch = Batch(images(size=32), global_ids_BK=tokenizer.global_ids(GLOBAL_VD[:3]))
    wanted = tokenizer(batch, LOSS).image_BCHW
    compile_parts(tokenizer.compiled_parts)
    found = tokenizer(batch, LOSS).image_BCHW
    assert len(tokenizer.compiled_parts) == 12 + 16 + 4
    # kinds of a block: widths 8, 8 to 16, 16 at two sides, 16 to 32, 32; in the decoder 32 to 16 and 16 to 8 besides
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 8
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    found.sum().backward()
    with torch.no_grad():
        for count in (3, 2):  # without gradients, and another number of images
            tokenizer(Batch(*(None if part is None else part[:count] for part in batch)), LOSS)
    assert counters["stats"]["unique_graphs"] == 3 * graphs
    assert counters["frames"]["ok"] == counters["frames"]["total"] == 3 * graphs
    assert not counters["graph_break"]


def test_what_is_compiled_stays_in_its_folder_unless_the_environment_names_another(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    keep_compiled(tmp_path / "first")
    keep_compiled(tmp_path / "second")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "first")
