"""Vector quantization: nearest codes, the straight-through estimator and the cure for codebook collapse.

Shape suffixes: N vectors, V codes, D their width, K nearest codes. Searches and moments compute
in float32 or more, whichever scope they stand in.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from v2l.precision import computed_in

DISTANCES_AT_ONCE = 2**26  # 256 MB of float32
REGULARISATION = 1e-4  # of the mean variance, added to the diagonal of covariances


@torch.no_grad()
@computed_in("float32")
def nearest_codes(vector_ND: Tensor, codebook_VD: Tensor) -> Tensor:
    """Index of each vector's nearest code by squared Euclidean distance; the lower of equally near ones (int64, N).

    Every code is compared; memory holds `DISTANCES_AT_ONCE` distances twice. They are summed in the order of VQ-GAN's
    code, so that imported weights decide near ties as they did there.
    """
    codebook_VD = codebook_VD.float()
    square_V = codebook_VD.square().sum(1)
    rows = max(1, DISTANCES_AT_ONCE // len(codebook_VD))
    found = []
    for part in vector_ND.float().split(rows):
        distance = part.square().sum(1, keepdim=True) + square_V
        found.append(distance.sub_(part @ codebook_VD.T, alpha=2).argmin(1))
    return torch.cat(found)


@torch.no_grad()
@computed_in("float32")
def nearest_k_codes(vector_ND: Tensor, codebook_VD: Tensor, k: int) -> Tensor:
    """The `k` nearest codes of each vector by squared Euclidean distance, nearest first (int64, NK; released).

    Distances are compared in float64 to nine decimals, so that equal codes come in index order.
    """
    codebook_VD = codebook_VD.double()
    square_V = codebook_VD.square().sum(1)
    rows = max(1, DISTANCES_AT_ONCE // (4 * len(codebook_VD)))
    found = []
    for part in vector_ND.double().split(rows):
        distance = part.square().sum(1, keepdim=True) + square_V - 2 * part @ codebook_VD.T
        found.append(distance.round(decimals=9).sort(dim=1, stable=True).indices[:, :k])
    return torch.cat(found)


def first_equal_rows(codebook_VD: Tensor) -> Tensor:
    """For each code the lowest index that holds the same vector (int64, V).

    Several subwords can have one text (with and without a leading space), hence one vector; after projection, rounding
    alone would decide between them.
    """
    first: dict[bytes, int] = {}
    rows = codebook_VD.detach().cpu().numpy()
    return torch.tensor([first.setdefault(row.tobytes(), index) for index, row in enumerate(rows)], dtype=torch.int64)


class RowsOfProjection(torch.autograd.Function):
    """Rows of a table whose projection is known already; weight and bias get the gradient of projecting these rows.

    So no row is projected twice, and the backward pass costs a product with the rows that were taken, not with all.
    """

    @staticmethod
    def forward(
        ctx: Any, weight_DE: Tensor, bias_D: Tensor, projected_VD: Tensor, table_VE: Tensor, ids: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(table_VE, ids)
        return projected_VD.clone() if ids is None else F.embedding(ids, projected_VD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        table_VE, ids = ctx.saved_tensors
        gradient_ND = gradient.flatten(0, -2)
        row_NE = table_VE if ids is None else F.embedding(ids.flatten(), table_VE)
        return gradient_ND.T @ row_NE, gradient_ND.sum(0), None, None, None


def hide(code_BLD: Tensor, visible_BL: Tensor | None) -> Tensor:
    """The codes' vectors with zeros where they are not visible; None: all are."""
    return code_BLD if visible_BL is None else code_BLD * visible_BL[..., None]


def straight_through(vector_ND: Tensor, code_ND: Tensor) -> Tensor:
    """The codes' values with the vectors' gradient."""
    return vector_ND + (code_ND - vector_ND).detach()


def rotated(vector_ND: Tensor, code_ND: Tensor) -> Tensor:
    """The codes' values; the gradient passes as if each vector were turned and scaled to its code (Fifty et al. 2024).

    The turn is that in the plane of the two, the scale the ratio of their lengths; both are constants of the gradient.
    """
    with torch.no_grad():
        scale = code_ND.norm(dim=-1, keepdim=True) / vector_ND.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        from_ND, to_ND = F.normalize(vector_ND, dim=-1), F.normalize(code_ND, dim=-1)
        middle_ND = F.normalize(from_ND + to_ND, dim=-1)
    along_middle = (vector_ND * middle_ND).sum(-1, keepdim=True) * middle_ND
    along_from = (vector_ND * from_ND).sum(-1, keepdim=True) * to_ND
    return scale * (vector_ND - 2 * along_middle + 2 * along_from)


def estimated(vector_ND: Tensor, code_ND: Tensor, estimator: str) -> Tensor:
    """The codes' values with the gradient of `train_tokenizer.loss.estimator`."""
    return {"straight-through": straight_through, "rotation": rotated}[estimator](vector_ND, code_ND)


def quantizer_loss(vector_ND: Tensor, code_ND: Tensor, codebook: float, commitment: float) -> Tensor:
    """commitment * mean((sg(code) - vector)^2) + codebook * mean((code - sg(vector))^2), sg: no gradient (released).

    The first term draws the encoder to the codes; the second trains the projector (v2l) or the codebook (vqgan).
    """
    drawn = commitment * F.mse_loss(vector_ND, code_ND.detach())
    return drawn + codebook * F.mse_loss(code_ND, vector_ND.detach())


@torch.no_grad()
@computed_in("float32")
def matching_map(code_VD: Tensor, vector_NE: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map (weight_ED, bias_E) after which the codes have the vectors' mean and covariance.

    weight = Cov(vector)^(1/2) Cov(code)^(-1/2), bias = mean(vector) - weight mean(code), so D = E. Both covariances get
    a small multiple of their mean variance on the diagonal: fewer than D vectors, or codes in a subspace, stay valid.
    """
    code_mean, code_covariance = _moments(code_VD)
    vector_mean, vector_covariance = _moments(vector_NE)
    weight = _power(vector_covariance, 0.5) @ _power(code_covariance, -0.5)
    bias = vector_mean - weight @ code_mean
    return weight.float(), bias.float()


@torch.no_grad()
@computed_in("float32")
def transport_map(code_VD: Tensor, vector_ND: Tensor) -> tuple[Tensor, Tensor]:
    """As `matching_map`, but of all such maps the one that moves the codes least (optimal transport of Gaussians).

    weight = S^(-1/2) (S^(1/2) Cov(vector) S^(1/2))^(1/2) S^(-1/2) with S = Cov(code), symmetric.
    """
    code_mean, code_covariance = _moments(code_VD)
    vector_mean, vector_covariance = _moments(vector_ND)
    root, inverse = _power(code_covariance, 0.5), _power(code_covariance, -0.5)
    weight = inverse @ _power(root @ vector_covariance @ root, 0.5) @ inverse
    bias = vector_mean - weight @ code_mean
    return weight.float(), bias.float()


def _moments(vector_ND: Tensor) -> tuple[Tensor, Tensor]:
    vector_ND = vector_ND.double()
    mean = vector_ND.mean(0)
    centred = vector_ND - mean
    covariance = centred.T @ centred / len(centred)
    floor = REGULARISATION * covariance.diagonal().mean() + torch.finfo(torch.float32).tiny
    return mean, covariance + floor * torch.eye(len(mean), dtype=covariance.dtype, device=covariance.device)


def _power(matrix_DD: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix_DD)
    return (vectors * values.clamp(min=torch.finfo(torch.float32).tiny) ** exponent) @ vectors.T
