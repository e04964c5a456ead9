r"""Closed forms for the spectra of random layers. Introduced in chapter 3.

Throughout, ``W`` is ``d × d'`` with i.i.d. entries ``N(0, σ²/d')``, ``ratio`` is ``c = d/d'`` (``d_{k-1}/d_k`` in the
paper), ``μ_j`` are the ``d`` eigenvalues of ``W Wᵀ``, and ``γ_ij = λ_i² μ_j`` the squared singular values of a linear
GCN layer's Jacobian. Entries ``N(0, s²)`` without the scaling are ``σ² = s² d'``.
"""
from __future__ import annotations

import math
import numbers

import numpy as np
import torch

from .checks import check_finite


def _positive(name: str, value: float) -> float:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a positive number; it was {value!r} of type {type(value).__name__}")
    value = float(value)
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a positive finite number; it was {value}")
    return value


def _array(name: str, value: object) -> np.ndarray:
    array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
    if array.size and array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; its dtype was {array.dtype}")
    array = array.astype(float)
    check_finite(name, torch.as_tensor(array))
    return array


def marchenko_pastur_support(ratio: float, variance: float = 1.0) -> tuple[float, float]:
    """Ends ``σ² (1 ∓ √c)²`` of the continuous part of the Marchenko–Pastur law."""
    root = math.sqrt(_positive("ratio", ratio))
    variance = _positive("variance", variance)
    return variance * (1 - root) ** 2, variance * (1 + root) ** 2


def marchenko_pastur_atom(ratio: float) -> float:
    """Mass ``max(0, 1 - 1/c)`` at zero: the share of zero eigenvalues of ``W Wᵀ`` when ``d > d'``."""
    return max(0.0, 1.0 - 1.0 / _positive("ratio", ratio))


def marchenko_pastur_pdf(x: object, ratio: float, variance: float = 1.0) -> np.ndarray:
    r"""Density of the continuous part of the Marchenko–Pastur law.

    .. math:: f_{MP}(x) = \frac{\sqrt{(x_+ - x)(x - x_-)}}{2 \pi \sigma^2 c\, x}, \qquad x_\pm = \sigma^2 (1 \pm \sqrt c)^2

    It integrates to ``min(1, 1/c)``; the rest is the atom at zero (:func:`marchenko_pastur_atom`).

    Args:
        x: points, any shape. ratio: ``c = d/d'``. variance: ``σ²``.

    Raises:
        ValueError: ``x`` not finite, ``ratio`` or ``variance`` not positive.

    Source: Marchenko & Pastur (1967); definition A.3 of the paper.
    """
    x = _array("x", x)
    low, high = marchenko_pastur_support(ratio, variance)
    inside = (x > low) & (x < high) & (x > 0)
    safe = np.where(inside, x, 1.0)
    root = np.sqrt(np.clip((high - x) * (x - low), 0, None))
    return np.where(inside, root / (2 * math.pi * variance * ratio * safe), 0.0)


def marchenko_pastur_cdf(x: object, ratio: float, variance: float = 1.0) -> np.ndarray:
    r"""Distribution function of the Marchenko–Pastur law, its atom at zero included.

    With ``a, b`` the ends of the support, the density integrates to

    .. math:: \frac{1}{2 \pi \sigma^2 c} \left[\sqrt{(b - x)(x - a)} + (a + b) \arctan\sqrt{\tfrac{x - a}{b - x}}
        - 2 \sqrt{ab} \arctan\sqrt{\tfrac{b (x - a)}{a (b - x)}}\right]

    Args, Raises: as :func:`marchenko_pastur_pdf`.
    """
    x = _array("x", x)
    low, high = marchenko_pastur_support(ratio, variance)
    left, right = np.sqrt(np.clip(x - low, 0, high - low)), np.sqrt(np.clip(high - x, 0, high - low))
    area = (left * right + (low + high) * np.arctan2(left, right)
            - 2 * math.sqrt(low * high) * np.arctan2(math.sqrt(high) * left, math.sqrt(low) * right))
    atom = marchenko_pastur_atom(ratio)
    return np.where(x < 0, 0.0, np.clip(atom + area / (2 * math.pi * variance * ratio), atom, 1.0))


def _squares(lambdas: object) -> np.ndarray:
    squares = _array("lambdas", lambdas).reshape(-1) ** 2
    if squares.size == 0:
        raise ValueError("lambdas must hold at least one eigenvalue; it was empty")
    return np.where(squares < 1e-20, 0.0, squares)  # eigenvalues that are zero up to rounding belong to the atom


def jacobian_mixture_pdf(x: object, lambdas: object, ratio: float, variance: float = 1.0) -> np.ndarray:
    r"""Density of the squared singular values of a linear GCN layer's Jacobian, pooled over the whole graph.

    .. math:: f(x) = \frac1n \sum_{i: \lambda_i \ne 0} \frac1{\lambda_i^2} f_{MP}\!\left(\frac{x}{\lambda_i^2}\right)

    The continuous part; the rest of the mass is :func:`jacobian_mixture_atom`.

    Args:
        x: points ``(m,)``. lambdas: eigenvalues of ``Â``. ratio, variance: as :func:`marchenko_pastur_pdf`.

    Raises:
        ValueError: as :func:`marchenko_pastur_pdf`; no eigenvalues.
    """
    x, squares = _array("x", x), _squares(lambdas)
    values, counts = np.unique(squares[squares > 0], return_counts=True)
    total = np.zeros_like(x)
    for square, count in zip(values, counts, strict=True):
        total += count / square * marchenko_pastur_pdf(x / square, ratio, variance)
    return total / squares.size


def jacobian_mixture_atom(lambdas: object, ratio: float) -> float:
    """Mass at zero of the pooled distribution: zero ``λ_i``, and zero ``μ_j`` when ``d > d'``."""
    zero = float(np.mean(_squares(lambdas) == 0))
    return zero + (1 - zero) * marchenko_pastur_atom(ratio)


def jacobian_mixture_cdf(x: object, lambdas: object, ratio: float, variance: float = 1.0) -> np.ndarray:
    """Distribution function belonging to :func:`jacobian_mixture_pdf`, the atom at zero included."""
    x, squares = _array("x", x), _squares(lambdas)
    # Interpolated over √x: at c = 1 the law rises like √x from 0, which a grid in x would blur.
    grid = np.linspace(0, math.sqrt(marchenko_pastur_support(ratio, variance)[1]), 8193)
    base = marchenko_pastur_cdf(grid ** 2, ratio, variance)
    root = np.sqrt(np.clip(x, 0, None))
    values, counts = np.unique(squares, return_counts=True)
    total = np.zeros_like(x)
    for square, count in zip(values, counts, strict=True):
        total += count * ((x >= 0) if square == 0 else np.where(x < 0, 0.0, np.interp(root / math.sqrt(square), grid, base)))
    return total / squares.size


def jacobian_moments(lambdas: object, ratio: float, variance: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean and variance over ``j`` of ``γ_ij = λ_i² μ_j`` for each ``i`` (Theorem 3.2, Eqs. 7 and 8).

    .. math:: \mathbb E[\gamma_{ij}] = \lambda_i^2 \sigma^2, \qquad
              \operatorname{Var}[\gamma_{ij}] = \lambda_i^4 \sigma^4 d/d'

    Shapes:
        two arrays ``(n,)``.
    """
    squares = _array("lambdas", lambdas).reshape(-1) ** 2
    ratio, variance = _positive("ratio", ratio), _positive("variance", variance)
    return squares * variance, squares ** 2 * variance ** 2 * ratio


def distribution_distance(values: object, cdf_points: np.ndarray, cdf: np.ndarray) -> tuple[float, float]:
    """Kolmogorov–Smirnov and Wasserstein-1 distance between a sample and a distribution function on a fine grid.

    Args:
        values: the sample. cdf_points: ascending grid that covers it. cdf: the distribution function there.

    Raises:
        ValueError: an empty sample; a grid that does not ascend or does not fit ``cdf``.
    """
    values = np.sort(_array("values", values).reshape(-1))
    if values.size == 0:
        raise ValueError("values must hold at least one number; it was empty")
    cdf_points, cdf = _array("cdf_points", cdf_points), _array("cdf", cdf)
    if cdf.shape != cdf_points.shape:
        raise ValueError(f"cdf must have the shape {cdf_points.shape} of cdf_points; its shape was {cdf.shape}")
    if (np.diff(cdf_points) < 0).any():
        raise ValueError("cdf_points must ascend; some point was below the one before it")
    empirical = np.searchsorted(values, cdf_points, side="right") / values.size
    gap = np.abs(empirical - cdf)
    return float(gap.max()), float(np.sum((gap[1:] + gap[:-1]) / 2 * np.diff(cdf_points)))


def edge_of_chaos_distance(eigenvalues: object) -> float:
    """``mean ||eig| - 1|``: 0 when every eigenvalue lies on the unit circle (chapter 4).

    Raises:
        ValueError: no eigenvalues, or some that are not finite.
    """
    values = torch.as_tensor(eigenvalues).detach()
    if values.numel() == 0:
        raise ValueError("eigenvalues must hold at least one value; it was empty")
    check_finite("eigenvalues", values.abs())
    return float((values.abs().double() - 1).abs().mean())
