"""One batch through the networks at the paper's sizes: 128 px, 32,000 x 768 codes, CLIP ViT-L/14."""

import subprocess
import sys

import open_clip
import pytest
import torch
import torch.nn.functional as F

from v2l.configuration.tokenizer_entries import SPAEEntry
from v2l.configuration.tokenizer_training import Loss, Network
from v2l.models import quantizers
from v2l.models.blocks import CrossAttention, SelfAttention
from v2l.models.discriminator import Discriminator
from v2l.models.spae import SPAETokenizer
from v2l.models.v2l import V2LNetwork
from v2l.models.vision_tokenizer import Batch

pytestmark = pytest.mark.slow


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def tokenizer() -> V2LNetwork:
    torch.manual_seed(0)
    local_VD, global_VD = torch.randn(32_000, 768), F.normalize(torch.randn(11_908, 768))
    return V2LNetwork("v2l", "v2l", Network(), 21, local_VD, global_VD)


def test_a_training_pass_has_the_papers_shapes(tokenizer):
    image_BCHW = torch.rand(2, 3, 128, 128) * 2 - 1
    global_BK = tokenizer.global_ids(F.normalize(torch.randn(2, 768)))
    assert global_BK.shape == (2, 21) and all(len(set(row)) == 21 for row in global_BK.tolist())
    tokenizer.match_moments(image_BCHW)
    batch = Batch(image_BCHW, global_ids_BK=global_BK)
    reconstruction_BCHW, losses, local_BL = tokenizer(batch, Loss(perceptual_weights="unused"))
    assert reconstruction_BCHW.shape == image_BCHW.shape and local_BL.shape == (2, 16 * 16)
    assert local_BL.min() >= 0 and local_BL.max() < 32_000 and local_BL.unique().numel() > 100
    ((reconstruction_BCHW - image_BCHW).abs().mean() + losses["quantizer"]).backward()
    without = {name for name, parameter in tokenizer.named_parameters() if parameter.grad is None}
    assert without == {"tok_embeddings.weight", "tok_embeddings_global.weight"}
    assert Discriminator(Network())(image_BCHW).shape == (2, 1, 30, 30)


def test_spae_has_six_layers_at_the_papers_sizes():
    torch.manual_seed(0)
    tokenizer = SPAETokenizer("spae", Network(), SPAEEntry(method="spae"), torch.randn(32_000, 768))
    image_BCHW = torch.rand(2, 3, 128, 128) * 2 - 1
    tokenizer.match_moments(image_BCHW)
    batch = Batch(image_BCHW, F.normalize(torch.randn(2, 768)), torch.zeros(2, 256))
    reconstruction_BCHW, losses, local_BL = tokenizer(batch, Loss(perceptual_weights="unused"))
    assert reconstruction_BCHW.shape == image_BCHW.shape and local_BL.shape == (2, 256)
    assert tokenizer.encode(image_BCHW).global_BK.shape == (2, 341)
    ((reconstruction_BCHW - image_BCHW).abs().mean() + losses["quantizer"] + losses["semantic"]).backward()
    without = {name for name, parameter in tokenizer.named_parameters() if parameter.grad is None}
    assert without == {"tok_embeddings.weight"}


def test_attention_stands_only_in_the_middle(tokenizer):
    found = {name for name, part in tokenizer.named_modules() if isinstance(part, SelfAttention | CrossAttention)}
    assert found == {"encoder.mid.attn_1", "decoder.mid.attn_1", "decoder.mid.cross_attn_1"}


def test_parameter_counts(tokenizer):
    """Counted by hand from the released configuration: a 3x3 convolution has 9 * in * out + out parameters."""

    def convolution(channels_in: int, channels_out: int, side: int = 3) -> int:
        return side * side * channels_in * channels_out + channels_out

    def residual(channels_in: int, channels_out: int) -> int:
        shortcut = convolution(channels_in, channels_out, 1) if channels_in != channels_out else 0
        convolutions = convolution(channels_in, channels_out) + convolution(channels_out, channels_out)
        return 2 * channels_in + 2 * channels_out + convolutions + shortcut

    middle = 2 * residual(512, 512) + 2 * 512 + 4 * convolution(512, 512, 1)
    down = [(128, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 256), (256, 512), (512, 512)]
    encoder = convolution(3, 128) + sum(residual(*pair) for pair in down) + middle + 2 * 512 + convolution(512, 256)
    encoder += convolution(128, 128) + 2 * convolution(256, 256)
    up = [(512, 512)] * 3 + [(512, 256)] + [(256, 256)] * 5 + [(256, 128)] + [(128, 128)] * 2
    attention = 512 * 4096 + 2 * 768 * 4096 + 4096 * 512 + 512
    decoder = convolution(256, 512) + sum(residual(*pair) for pair in up) + middle + attention + 2 * 128
    decoder += convolution(512, 512) + 2 * convolution(256, 256) + convolution(128, 3)
    assert parameters(tokenizer.encoder) == encoder
    assert parameters(tokenizer.decoder) == decoder
    assert parameters(tokenizer.codebook_projection) == 768 * 768 + 768
    assert tokenizer.tok_embeddings.weight.shape == (32_000, 768)


def test_the_search_is_exact_on_the_whole_codebook(tokenizer):
    vector_ND, codebook_VD = F.normalize(torch.randn(40, 768)), tokenizer.codes(torch.arange(32_000)).detach()
    found = quantizers.nearest_codes(vector_ND, codebook_VD)
    distance_NV = torch.cdist(vector_ND.double(), codebook_VD.double())
    torch.testing.assert_close(distance_NV[torch.arange(40), found], distance_NV.min(1).values, rtol=1e-6, atol=1e-6)


SEARCH = """
import torch
from pathlib import Path
from v2l.models.quantizers import nearest_codes
torch.manual_seed(0)
codebook_VD, vector_ND = torch.randn(32_000, 768), torch.nn.functional.normalize(torch.randn(64 * 16 * 16, 768))
nearest_codes(vector_ND[:16], codebook_VD[:16])
def kilobytes(key):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if key in line)
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, which starts as that of the parent process
before = kilobytes("VmRSS:")
found = nearest_codes(vector_ND, codebook_VD)
print(kilobytes("VmHWM:") - before)
rows = torch.arange(0, len(found), 64)
distance = torch.cdist(vector_ND[rows].double(), codebook_VD.double())
print(float((distance.gather(1, found[rows, None])[:, 0] - distance.amin(1)).max()))
"""


def test_the_search_of_64_images_takes_less_than_a_gigabyte_and_is_exact():
    """32,000 x 768 codes, 64 x 16 x 16 vectors; extra memory is the process's peak above what it held before."""
    result = subprocess.run([sys.executable, "-c", SEARCH], capture_output=True, text=True, timeout=600, check=True)
    extra_kilobytes, excess = map(float, result.stdout.split())
    assert 0 < extra_kilobytes < 1e6, result.stdout
    assert excess < 1e-5, "no code is nearer than the one found, but for rounding"


def test_the_clip_image_tower_feeds_the_global_path(tokenizer):
    """ViT-L/14 drawn at random in half the memory (bfloat16); its features are as wide as the codebooks."""
    torch.manual_seed(0)
    settings = open_clip.get_model_config("ViT-L-14")
    model = open_clip.CLIP(settings["embed_dim"], settings["vision_cfg"], settings["text_cfg"], quick_gelu=True)
    assert parameters(model.visual) == 303_966_208
    with torch.no_grad():
        feature_BD = model.bfloat16().encode_image(torch.randn(1, 3, 224, 224).bfloat16(), normalize=True)
    assert feature_BD.shape == (1, 768)
    assert tokenizer.global_ids(feature_BD.float()).shape == (1, 21)
