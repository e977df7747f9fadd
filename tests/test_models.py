"""The networks: key layout, quantizers against brute force, gradients, losses."""

import lpips
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.configuration.tokenizer_training import Loss, Network, TrainTokenizer
from v2l.models import quantizers
from v2l.models.blocks import CrossAttention, Downsample, Upsample
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss, adaptive_weight, discriminator_hinge, generator_hinge
from v2l.models.lpips_network import empty_lpips
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_class, tokenizer_description
from v2l.models.v2l import V2LNetwork
from v2l.models.vision_tokenizer import NO_CODE, Batch, Codes, VisionTokenizer

NETWORK = Network(
    image_size=16,
    channels=8,
    channel_multipliers=[1, 2, 2, 4],
    residual_blocks=1,
    latent_channels=12,
    cross_attention_heads=2,
    cross_attention_head_channels=4,
    learned_codebook_size=10,
    learned_codebook_channels=6,
    discriminator_channels=8,
)
LOCAL_VD = torch.randn(40, 16, generator=torch.Generator().manual_seed(1))
GLOBAL_VD = F.normalize(torch.randn(30, 16, generator=torch.Generator().manual_seed(2)), dim=1)
CODEBOOK = {"local_VD": LOCAL_VD, "global_VD": GLOBAL_VD, "subword_global_VD": LOCAL_VD[5:20].clone()}
LOSS = Loss(perceptual_weights="unused")

CONVOLUTIONAL = ["v2l", "v2l-local", "v2l-subword", "vqgan"]  # lqae and spae have tests of their own


def make(method: str, network: Network = NETWORK) -> VisionTokenizer:
    torch.manual_seed(0)
    settings = TrainTokenizer(dataset="toy", network=network, loss=LOSS, global_tokens=5)
    entry = {"method": method} | ({"pyramid": [1, 2], "semantic_layers": 1} if method == "spae" else {})
    return tokenizer_class(method).create("name", TOKENIZER_METHODS[method].model_validate(entry), settings, CODEBOOK)


def images(count: int = 3, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("method", CONVOLUTIONAL)
def test_encode_and_decode_have_the_documented_shapes(method):
    tokenizer = make(method).eval()
    local_BL, global_BK = tokenizer.encode(images(), GLOBAL_VD[:3])
    assert local_BL.shape == (3, 4) and local_BL.dtype == torch.int64
    assert (global_BK is not None) == tokenizer.has_global == (tokenizer.global_tokens > 0)
    assert tokenizer.decode(local_BL, global_BK).shape == (3, 3, 16, 16)
    reconstruction, losses, ids_BL = tokenizer(Batch(images(), global_ids_BK=global_BK), LOSS)
    assert torch.equal(ids_BL, local_BL) and all(loss.shape == () for loss in losses.values())
    torch.testing.assert_close(reconstruction, tokenizer.decode(local_BL, global_BK), atol=1e-3, rtol=1e-2)


def test_codes_of_what_is_not_finite_are_none_and_others_stay():
    codes = Codes(torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.zeros(3, 1))
    vector_BLD, feature_BD = torch.zeros(3, 2, 4), torch.zeros(3, 5)
    assert codes.of_finite(vector_BLD, feature_BD).local_BL.tolist() == [[1, 2], [3, 4], [5, 6]]
    vector_BLD[0, 1, 3], feature_BD[2, 0] = torch.nan, torch.inf
    assert codes.of_finite(vector_BLD, feature_BD).local_BL.tolist() == [[NO_CODE, NO_CODE], [3, 4], [NO_CODE, NO_CODE]]


def test_state_dict_has_the_key_names_of_vqgan_checkpoints():
    keys = set(make("v2l", NETWORK.model_copy(update={"attention_levels": [3]})).state_dict())
    present = """
    encoder.conv_in.weight encoder.down.0.block.0.norm1.weight encoder.down.1.block.0.nin_shortcut.bias
    encoder.down.2.downsample.conv.weight encoder.down.3.attn.0.proj_out.weight encoder.mid.attn_1.q.bias
    encoder.mid.block_2.conv2.weight encoder.norm_out.bias encoder.conv_out.weight quant_conv.weight
    post_quant_conv.bias decoder.conv_in.weight decoder.mid.block_1.conv1.weight decoder.mid.attn_1.k.weight
    decoder.mid.cross_attn_1.to_q.weight decoder.mid.cross_attn_1.to_k.weight decoder.mid.cross_attn_1.to_v.weight
    decoder.mid.cross_attn_1.to_out.0.weight decoder.mid.cross_attn_1.to_out.0.bias decoder.up.0.block.1.conv1.bias
    decoder.up.1.upsample.conv.weight decoder.up.0.block.0.nin_shortcut.weight decoder.up.3.attn.1.v.weight
    decoder.norm_out.weight decoder.conv_out.bias codebook_projection.weight codebook_projection.bias
    tok_embeddings.weight tok_embeddings_global.weight
    """
    absent = """
    encoder.down.3.downsample.conv.weight decoder.up.0.upsample.conv.weight encoder.down.0.attn.0.q.weight
    encoder.down.2.block.0.nin_shortcut.weight decoder.mid.cross_attn_1.to_v.bias first_equal_V
    """
    assert set(present.split()) <= keys
    assert not keys & set(absent.split())
    assert "quantize.embedding.weight" in make("vqgan").state_dict()


@pytest.mark.parametrize("method", ["v2l-local", "vqgan"])
def test_methods_without_global_path_have_none_of_its_parts(method):
    tokenizer = make(method)
    assert not tokenizer.has_global
    assert not [key for key in tokenizer.state_dict() if "cross_attn" in key or "global" in key]
    assert tokenizer.description["codebooks"]["global"] is None


def test_decoder_depends_on_the_global_codes():
    tokenizer = make("v2l").eval()
    local_BL = torch.zeros(1, 4, dtype=torch.int64)
    first, second = (tokenizer.decode(local_BL, torch.tensor([[i, i + 1]])) for i in (0, 7))
    assert (first - second).abs().max() > 1e-4
    with pytest.raises(ValueError, match="global ids"):
        tokenizer.decode(local_BL, None)


def test_encoder_outputs_are_unit_vectors_for_frozen_codebooks_only():
    ones = torch.ones(3, 4)
    torch.testing.assert_close(make("v2l").vectors(images()).norm(dim=2), ones)
    assert not torch.allclose(make("vqgan").vectors(images()).norm(dim=2), ones, atol=0.05)


def test_cross_attention_without_residual_passes_no_space_from_a_constant_context():
    x_BCHW, context = torch.randn(1, 8, 4, 4), torch.randn(1, 1, 6).expand(1, 3, 6)
    for residual in (False, True):
        torch.manual_seed(0)
        spread = CrossAttention(8, 6, 2, 4, residual)(x_BCHW, context).flatten(2).std(dim=2).max()
        assert (spread > 0.1) == residual


def test_downsample_pads_right_and_bottom_and_upsample_doubles():
    down = Downsample(1)
    torch.nn.init.zeros_(down.conv.bias)
    torch.nn.init.ones_(down.conv.weight)
    assert down(torch.ones(1, 1, 4, 4)).flatten().tolist() == [9, 6, 6, 4]
    assert Upsample(1)(torch.ones(1, 1, 3, 3)).shape == (1, 1, 6, 6)


small = st.integers(-3, 3).map(float)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=small),
    hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=small),
    st.integers(1, 40),
)
def test_nearest_codes_are_those_of_brute_force_with_ties_to_the_lower_index(vectors, codes, at_once):
    distance_NV = ((vectors[:, None] - codes[None]) ** 2).sum(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantizers, "DISTANCES_AT_ONCE", at_once)
        found = quantizers.nearest_codes(torch.from_numpy(vectors), torch.from_numpy(codes))
        several = quantizers.nearest_k_codes(torch.from_numpy(vectors), torch.from_numpy(codes), 3)
    assert found.tolist() == distance_NV.argmin(1).tolist()
    assert several.tolist() == np.argsort(distance_NV, axis=1, kind="stable")[:, :3].tolist()


def test_of_equal_codes_the_lowest_is_used():
    local_VD = LOCAL_VD.clone()
    local_VD[20:] = local_VD[:20]
    tokenizer = V2LNetwork("name", "v2l-local", NETWORK, 5, local_VD)
    vectors = tokenizer.codes(torch.arange(40))[None]
    assert tokenizer.nearest(vectors)[0].tolist() == list(range(20)) * 2


def test_straight_through_and_quantizer_loss():
    vector, code = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    output = quantizers.straight_through(vector, code)
    torch.testing.assert_close(output, code)
    (output * torch.arange(3.0)).sum().backward()
    torch.testing.assert_close(vector.grad, torch.arange(3.0).expand(4, 3))
    assert code.grad is None
    vector.grad = None
    loss = quantizers.quantizer_loss(vector, code, 0.33, 1.0)
    assert loss.item() == pytest.approx(1.33 * F.mse_loss(vector, code).item(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(vector.grad, 2 * (vector - code).detach() / 12)
    torch.testing.assert_close(code.grad, 0.33 * 2 * (code - vector).detach() / 12)


@given(st.integers(0, 2**32 - 1))
def test_rotation_gives_the_codes_with_the_gradient_of_a_turn_and_a_scale(seed):
    """The Jacobian J has J v = code and J^T J = (|code| / |v|)^2 I: it turns and scales, nothing else."""
    generator = torch.Generator().manual_seed(seed)
    vector_D, code_D = torch.randn(2, 5, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(quantizers.rotated(vector_D, code_D), code_D)
    jacobian_DD = torch.autograd.functional.jacobian(lambda value: quantizers.rotated(value, code_D), vector_D)
    torch.testing.assert_close(jacobian_DD @ vector_D, code_D)
    scale = (code_D.norm() / vector_D.norm()) ** 2
    torch.testing.assert_close(jacobian_DD.T @ jacobian_DD, scale * torch.eye(5, dtype=torch.float64))


def test_a_cross_attention_from_zero_passes_its_input_on_and_learns():
    zero, drawn = (CrossAttention(8, 6, 2, 4, residual=True, from_zero=value) for value in (True, False))
    x_BCHW, context_BKD = torch.randn(2, 8, 3, 3), torch.randn(2, 5, 6)
    assert torch.equal(zero(x_BCHW, context_BKD), x_BCHW) and not torch.equal(drawn(x_BCHW, context_BKD), x_BCHW)
    zero(x_BCHW, context_BKD).sum().backward()
    assert zero.to_out[0].weight.grad.abs().sum() > 0


def test_frozen_codebooks_get_no_gradient_and_the_projector_does():
    tokenizer = make("v2l")
    batch = Batch(images(), global_ids_BK=tokenizer.global_ids(GLOBAL_VD[:3]))
    reconstruction, losses, _ = tokenizer(batch, LOSS)
    (reconstruction.square().mean() + losses["quantizer"]).backward()
    without = {name for name, parameter in tokenizer.named_parameters() if parameter.grad is None}
    assert without == {"tok_embeddings.weight", "tok_embeddings_global.weight"}
    assert tokenizer.codebook_projection.weight.grad.abs().max() > 0


def test_matching_map_gives_the_codes_the_mean_and_covariance_of_the_vectors():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    vectors = torch.randn(800, 6, generator=generator) @ torch.randn(6, 6, generator=generator) - 1
    mapped = F.linear(codes, *quantizers.matching_map(codes, vectors))
    torch.testing.assert_close(mapped.mean(0), vectors.mean(0), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(mapped.T.cov(correction=0), vectors.T.cov(correction=0), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("method", CONVOLUTIONAL)
def test_match_moments_spreads_the_codes_over_the_encoder_outputs(method):
    tokenizer, batch = make(method).eval(), images(32)
    feature_BD = GLOBAL_VD[:1].expand(32, -1)
    before = tokenizer.encode(batch, feature_BD).local_BL.unique().numel()
    replaced = tokenizer.match_moments(batch)
    assert all(parameter.requires_grad for parameter in replaced) and replaced
    wanted = tokenizer.vectors(batch).mean((0, 1))
    table = tokenizer.codebooks[0] if method == "vqgan" else tokenizer.codes(torch.arange(40))
    torch.testing.assert_close(table.mean(0), wanted, atol=1e-4, rtol=1e-3)
    assert tokenizer.encode(batch, feature_BD).local_BL.unique().numel() > max(before, 3)


def test_discriminator_has_the_released_layers():
    discriminator = Discriminator(NETWORK)
    assert [tuple(part.weight.shape[:2]) for part in discriminator.main if hasattr(part, "stride")] == [
        *((8, 3), (16, 8), (32, 16), (1, 32)),
    ]
    assert discriminator(images(2, 32)).shape == (2, 1, 6, 6)
    assert Discriminator(NETWORK.model_copy(update={"discriminator_channels": 64})).main[2].weight.std().item() == (
        pytest.approx(0.02, rel=0.05)
    )


def test_hinge_losses_and_adaptive_weight():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 1.0])
    assert discriminator_hinge(real, fake).item() == pytest.approx(0.5 * (0.5 + 1.0))
    assert generator_hinge(fake).item() == pytest.approx(0.5)
    assert adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])).item() == pytest.approx(5 / 2.0001)
    assert adaptive_weight(torch.tensor([5.0]), torch.tensor([0.0])).item() == 1e4


def test_perceptual_loss_is_that_of_lpips():
    torch.manual_seed(0)
    network: lpips.LPIPS = empty_lpips("vgg")
    for head in network.lins:
        torch.nn.init.uniform_(head.model[-1].weight)
    first, second = images(2, 32), images(2, 32).flip(0)
    wanted = network(first, second).mean()
    torch.testing.assert_close(PerceptualLoss(network)(first, second), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", CONVOLUTIONAL)
def test_saved_tokenizer_loads_with_its_facts_and_the_same_codes(method, tmp_path):
    tokenizer = make(method).eval()
    tokenizer.match_moments(images(8))
    tokenizer.save(tmp_path / "weights.safetensors", {"stage": "test"})
    loaded = load_tokenizer(tmp_path / "weights.safetensors")
    assert loaded.description == tokenizer.description == tokenizer_description(tmp_path / "weights.safetensors")
    assert loaded.description["codebooks"]["local_size"] == (10 if method == "vqgan" else 40)
    found, wanted = (part.encode(images(), GLOBAL_VD[:3]) for part in (loaded, tokenizer))
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert not any(parameter.requires_grad for parameter in loaded.parameters()) and not loaded.training
