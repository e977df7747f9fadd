"""Each network computes in its own precision; what is decided in float32 stays there."""

import torch

from v2l.models.quantizers import matching_map, nearest_codes, nearest_k_codes
from v2l.precision import backward_of, computed_in


def switches() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_scopes_nest_and_leave_nothing_behind():
    before = switches()
    with computed_in("tf32"):
        assert switches() == (True, True)
        with computed_in("float32"):
            assert switches() == (False, False)
            assert not torch.is_autocast_enabled("cpu")
        assert switches() == (True, True)
        with computed_in("bfloat16"):
            assert switches() == (False, False)
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
            with computed_in("float32"):
                assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        with computed_in("float16"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float16
    assert switches() == before


def test_a_scope_ends_with_an_error():
    before = switches()
    try:
        with computed_in("tf32"):
            raise ValueError
    except ValueError:
        pass
    assert switches() == before


def test_backward_scopes_have_no_autocast():
    assert [backward_of(name) for name in ("float32", "tf32", "bfloat16", "float16")] == [
        *("float32", "tf32", "float32", "float32")
    ]


def test_searches_and_moments_are_the_same_in_every_scope():
    torch.manual_seed(0)
    vector_ND, codebook_VD = torch.randn(64, 16), torch.randn(300, 16)
    functions = (
        lambda: nearest_codes(vector_ND, codebook_VD),
        lambda: nearest_k_codes(vector_ND, codebook_VD, 5),
        lambda: torch.cat([part.flatten() for part in matching_map(codebook_VD, vector_ND)]),
    )
    for function in functions:
        wanted = function()
        for precision in ("tf32", "bfloat16", "float16"):
            with computed_in(precision):
                assert torch.equal(function(), wanted)
