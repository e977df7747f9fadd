"""The imitation of TF32 that benchmarks.precision measures with: how it rounds, and which scopes let it."""

import pytest
import torch

from benchmarks.rounded_products import RoundedProducts, rounded
from v2l.models.quantizers import nearest_codes
from v2l.precision import computed_in


def test_ten_bits_of_fraction_are_kept_and_ties_go_to_even():
    step = 2.0**-10
    given = torch.tensor([1.0, 1 + step, 1 + step / 2, 1 + 1.5 * step, 1 + step / 2 + 2.0**-20, -(1 + 0.75 * step)])
    assert rounded(given).tolist() == [1.0, 1 + step, 1.0, 1 + 2 * step, 1 + step, -(1 + step)]


def products() -> list[torch.Tensor]:
    torch.manual_seed(0)
    linear, convolution = torch.nn.Linear(8, 8), torch.nn.Conv2d(3, 4, 3)
    image_BCHW, vector_BD = torch.randn(2, 3, 8, 8), torch.randn(2, 8)
    found = [linear(vector_BD), convolution(image_BCHW)]
    return found + list(torch.autograd.grad(found[1].square().sum(), list(convolution.parameters())))


@pytest.mark.parametrize(("precision", "differs"), [("float32", False), ("tf32", True)])
def test_the_scope_decides_forward_and_backward(precision, differs):
    wanted = products()
    with RoundedProducts(), computed_in(precision):
        found = products()
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert torch.equal(one, other) is not differs, number
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-2)


def test_searches_are_never_rounded():
    torch.manual_seed(0)
    vector_ND, codebook_VD = torch.randn(500, 16), torch.randn(2000, 16)
    wanted = nearest_codes(vector_ND, codebook_VD)
    with RoundedProducts(), computed_in("tf32"):
        assert torch.equal(nearest_codes(vector_ND, codebook_VD), wanted)
        by_hand = ((vector_ND @ codebook_VD.T) - codebook_VD.square().sum(1) / 2).argmax(1)
    assert not torch.equal(by_hand, wanted)
