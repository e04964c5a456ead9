"""Validations of section 3 of the paper in float64: Lemma 3.1, Theorem 3.2, Proposition 3.3 (chapters 3 and 4)."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import datasets, graphs, jacobian, spectra
from ..models import GAT, GCN, GIN, GNNSSM, GatedGCN, GraphSAGE, state_generator, state_matrix

DTYPE = torch.float64

# reduced options of each experiment, for a quick look
QUICK = {"lemma_3_1": {"seeds": (0,), "widths": ((3, 4),), "cora_width": (4, 3)},
         "theorem_3_2": {"seeds": (0,), "widths": (16,), "ratios": (1.0,)},
         "proposition_3_3": {"seeds": (0,), "eigs": (0.9,), "kinds": ("orthogonal",)}}


def small_graphs() -> dict[str, tuple[Tensor, int]]:
    """Graphs on which a dense Jacobian fits: name -> ``(edge_index, num_nodes)``."""
    karate = datasets.karate_club()
    return {"path": (graphs.path(12), 12), "ring": (graphs.ring(12), 12), "grid": (graphs.grid(4, 5), 20),
            "complete": (graphs.complete(8), 8), "star": (graphs.star(10), 10),
            "barbell": (graphs.barbell(6, 2), 14), "caveman": (graphs.caveman(4, 5), 20),
            "random, disconnected": (graphs.erdos_renyi(24, 0.06, seed=3), 24),
            "karate club": (karate.edge_index, karate.num_nodes)}


def cora_component(device: str = "cpu") -> tuple[Tensor, Tensor, int]:
    """``(Â, edge_index, n)`` of Cora's largest connected component, sparse, float64."""
    cora = datasets.load_cora()
    edge_index, nodes = graphs.largest_component(cora.edge_index, cora.num_nodes)
    S = graphs.normalized_adjacency(edge_index, len(nodes), "sparse", DTYPE).to(device)
    return S, edge_index, len(nodes)


def _linear_gcn(d_in: int, d_out: int, seed: int, sigma: float = 1.0) -> GCN:
    """A linear GCN layer with ``W ~ N(0, σ²/d')``, the setting of Theorem 3.2."""
    layer = GCN(d_in, d_out, activation=None).to(DTYPE)
    generator = torch.Generator().manual_seed(seed)
    layer.weight.data = sigma * torch.randn(d_in, d_out, generator=generator, dtype=DTYPE) / math.sqrt(d_out)
    return layer


def eigenvector_errors(S: Tensor, layer: GCN, pairs: Sequence[tuple[int, int]] | None = None) -> tuple[float, int]:
    r"""Check Lemma 3.1 through products with the Jacobian only.

    For eigenpairs ``(λ_i, u_i)`` of ``Â`` and ``(μ_j, w_j)`` of ``W Wᵀ`` the lemma's proof says
    ``JᵀJ vec(u_i w_jᵀ) = λ_i² μ_j vec(u_i w_jᵀ)``. ``n d`` orthonormal eigenvectors are all there are, so if each of them
    passes, all singular values are the closed form's. One product with ``Σ_i s_i u_i w_jᵀ`` checks all ``i`` at once:
    in the basis ``u`` the result must be ``λ_i² μ_j s_i`` at every ``i``. The ``s_i`` are random normal, so that a wrong
    matrix passes with probability zero (Freivalds' check).

    Returns:
        the largest error relative to the largest squared singular value, and how many singular values were checked.
    """
    n = S.shape[0]
    parts = graphs.symmetric_eigen(S)
    mu, w = torch.linalg.eigh(layer.weight.detach() @ layer.weight.detach().T)
    lam, basis = torch.cat([p[1] for p in parts]), torch.zeros(n, n, dtype=DTYPE, device=S.device)
    column = 0
    for nodes, values, vectors in parts:
        basis[nodes[:, None], torch.arange(column, column + len(values), device=S.device)] = vectors
        column += len(values)
    product = jacobian.JacobianProduct(layer, torch.zeros(n, layer.in_dim, dtype=DTYPE, device=S.device), S)
    s = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=DTYPE).to(S.device)
    worst = 0.0
    for j in range(layer.in_dim):
        applied = product.vjp(product.jvp(torch.outer(basis @ s, w[:, j])))
        in_basis = basis.T @ applied @ w                       # entry (i, j') is the coefficient of u_i w_j'ᵀ
        expected = torch.zeros_like(in_basis)
        expected[:, j] = lam ** 2 * mu[j] * s
        worst = max(worst, float((in_basis - expected).abs().max()))
    return worst / float(s.abs().max() * lam.abs().max() ** 2 * mu.max()), n * layer.in_dim


def lemma_3_1(seeds: Sequence[int] = (0, 1, 2), widths: Sequence[tuple[int, int]] = ((4, 4), (3, 6), (6, 3)),
              cora_width: tuple[int, int] = (16, 12), device: str = "cpu", progress: bool = False) -> pd.DataFrame:
    """Lemma 3.1: closed form against all singular values, by two routes.

    Returns:
        a row for each graph, width and seed with ``max_relative_error`` (to the largest singular value).
    """
    rows = []
    for name, (edge_index, n) in tqdm(small_graphs().items(), desc="lemma 3.1", disable=not progress):
        S = graphs.normalized_adjacency(edge_index, n, dtype=DTYPE).to(device)
        for d_in, d_out in widths:
            for seed in seeds:
                layer, h = _linear_gcn(d_in, d_out, seed).to(device), torch.zeros(n, d_in, dtype=DTYPE, device=device)
                closed = jacobian.singular_values(layer, h, S, method="kronecker")
                dense = jacobian.singular_values(layer, h, S, method="dense")
                rows.append({"graph": name, "n": n, "d_in": d_in, "d_out": d_out, "seed": seed, "route": "dense",
                             "checked": len(dense), "max_relative_error": float((closed - dense).abs().max() / closed[0])})
    S, _, n = cora_component(device)
    error, checked = eigenvector_errors(S, _linear_gcn(*cora_width, seed=0).to(device))
    rows.append({"graph": "Cora, largest component", "n": n, "d_in": cora_width[0], "d_out": cora_width[1], "seed": 0,
                 "route": "matrix-free", "checked": checked, "max_relative_error": error})
    return pd.DataFrame(rows)


def theorem_3_2(seeds: Sequence[int] = tuple(range(8)), widths: Sequence[int] = (16, 32, 64, 128, 256),
                ratios: Sequence[float] = (0.5, 1.0, 2.0), sigma: float = 1.0, device: str = "cpu",
                progress: bool = False) -> pd.DataFrame:
    """Theorem 3.2 on Cora, karate club and a grid: moments over ``j`` at each ``i``, and the pooled law.

    ``d' = width`` and ``d = ratio · width``. Because ``γ_ij = λ_i² μ_j``, the ratio of measured to predicted moments is
    the same for every ``i``; ``mean_ratio`` and ``variance_ratio`` are those ratios.

    Returns:
        a row for each graph, width, ratio and seed: ``mean_ratio``, ``variance_ratio``, Kolmogorov–Smirnov and
        Wasserstein-1 distances of the pooled sample to the mixture law (``w1_over_range``: in units of its range) and, for
        comparison, to a single Marchenko–Pastur law with the same mean.
    """
    karate = datasets.karate_club()
    cora = datasets.load_cora()
    cases = {"Cora": (cora.edge_index, cora.num_nodes), "karate club": (karate.edge_index, karate.num_nodes),
             "grid 20 x 20": (graphs.grid(20, 20), 400)}
    rows = []
    for name, (edge_index, n) in cases.items():
        lam = graphs.spectrum(graphs.normalized_adjacency(edge_index, n, dtype=DTYPE).to(device))
        for d_out in tqdm(widths, desc=f"theorem 3.2, {name}", disable=not progress):
            for ratio in ratios:
                d_in = round(ratio * d_out)
                laws = _pooled_laws(lam, d_in / d_out, sigma ** 2)
                for seed in seeds:
                    weight = _linear_gcn(d_in, d_out, seed, sigma).to(device).weight.detach()
                    mu = torch.linalg.eigvalsh(weight @ weight.T).clamp(min=0)
                    rows.append({"graph": name, "n": n, "d_in": d_in, "d_out": d_out, "seed": seed}
                                | _moments(mu, d_in / d_out, sigma ** 2) | _distances(lam, mu, laws))
    return pd.DataFrame(rows)


def _pooled_laws(lam: Tensor, ratio: float, variance: float) -> dict[str, np.ndarray]:
    upper = 1.3 * spectra.marchenko_pastur_support(ratio, variance)[1]
    x = np.concatenate([[-1e-9], np.geomspace(1e-9, upper, 6000)])
    scale = float((lam ** 2).mean())
    return {"x": x, "mixture": spectra.jacobian_mixture_cdf(x, lam, ratio, variance),
            "single": spectra.marchenko_pastur_cdf(x, ratio, variance * scale)}


def _moments(mu: Tensor, ratio: float, variance: float) -> dict[str, float]:
    mean, spread = spectra.jacobian_moments(np.ones(1), ratio, variance)
    return {"mean_ratio": float(mu.mean() / mean[0]), "variance_ratio": float(mu.var(unbiased=False) / spread[0])}


def _distances(lam: Tensor, mu: Tensor, laws: dict[str, np.ndarray]) -> dict[str, float]:
    gamma = torch.outer(lam ** 2, mu).reshape(-1)
    gamma = torch.where(gamma < 1e-12, torch.zeros_like(gamma), gamma)
    ks, w1 = spectra.distribution_distance(gamma, laws["x"], laws["mixture"])
    single_ks, single_w1 = spectra.distribution_distance(gamma, laws["x"], laws["single"])
    span = float(gamma.max())
    return {"ks": ks, "w1_over_range": w1 / span, "single_mp_ks": single_ks, "single_mp_w1_over_range": single_w1 / span}


COUPLINGS = {"GCN": GCN, "GAT": GAT, "GraphSAGE": GraphSAGE, "GIN": GIN, "GatedGCN": GatedGCN}


def proposition_3_3(seeds: Sequence[int] = (0, 1, 2), eigs: Sequence[float] = (0.0, 0.5, 0.9, 1.0), dim: int = 5,
                    kinds: Sequence[str] = ("orthogonal", "identity", "gaussian", "uniform", "spread"), device: str = "cpu",
                    progress: bool = False) -> pd.DataFrame:
    """Proposition 3.3 on nonlinear couplings: the norm, its bound, and the error of the Jacobian's formula.

    Returns:
        a row for each graph, coupling, ``Λ`` and seed: ``norm``, ``bound``, ``slack = bound - norm``, and
        ``formula_error``, the largest entry of ``J - (Λᵀ ⊗ I + (Bᵀ ⊗ I) J_F)``.
    """
    rows = []
    for name, (edge_index, n) in tqdm(small_graphs().items(), desc="proposition 3.3", disable=not progress):
        for coupling_name, coupling_type in COUPLINGS.items():
            for kind in kinds:
                for eig in eigs:
                    for seed in seeds:
                        norms = _ssm_norms(edge_index, n, coupling_type, kind, eig, dim, seed, device)
                        rows.append({"graph": name, "n": n, "coupling": coupling_name, "kind": kind, "eig": eig,
                                     "seed": seed} | norms)
    return pd.DataFrame(rows)


def _ssm_norms(edge_index: Tensor, n: int, coupling_type: type, kind: str, eig: float, dim: int, seed: int,
               device: str) -> dict[str, float]:
    generator = state_generator(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        coupling = coupling_type(dim, dim, "tanh").to(DTYPE).to(device)
    Lambda = state_matrix(dim, eig, kind, generator, DTYPE).to(device)
    B = state_matrix(dim, 1.0, "uniform", generator, DTYPE).to(device)
    h = torch.randn(n, dim, generator=generator, dtype=DTYPE).to(device)
    S = graphs.operator(coupling.operator, edge_index, n, dtype=DTYPE).to(device)
    J = jacobian.layer_jacobian(GNNSSM(coupling, Lambda, B), h, S)
    J_F = jacobian.layer_jacobian(coupling, h, S)
    eye = torch.eye(n, dtype=DTYPE, device=device)
    formula = torch.kron(Lambda.T.contiguous(), eye) + torch.kron(B.T.contiguous(), eye) @ J_F
    norm = torch.linalg.matrix_norm
    bound = float(norm(Lambda, 2) + norm(B, 2) * norm(J_F, 2))
    return {"norm": float(norm(J, 2)), "bound": bound, "slack": bound - float(norm(J, 2)),
            "formula_error": float((J - formula).abs().max())}
