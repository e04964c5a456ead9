"""Section 4 of the paper: Lemma 4.1, Propositions 4.2 and 4.3, and the measures they are about."""
from __future__ import annotations

import math
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN2Conv, GCNConv

from gnnssm_lite.datasets import load_cora
from gnnssm_lite.graphs import (
    complete,
    erdos_renyi,
    grid,
    laplacian,
    normalized_adjacency,
    operator,
    path,
    ring,
    spectrum,
    star,
    undirected,
)
from gnnssm_lite.jacobian import layer_jacobian
from gnnssm_lite.models import ADGN, GCN, GIN, GNNSSM, GraphCON, Network, state_matrix
from gnnssm_lite.smoothing import (
    check_contraction,
    contraction_bound,
    decay_rate,
    dirichlet_energy,
    energy_bound,
    energy_constants,
    feature_norm,
    layer_norm_bound,
    local_norms,
    normalized_rayleigh_quotient,
    operator_norm,
    principal_plane,
    projected_trajectory,
    rayleigh_quotient,
    sharp_energy_bound,
    trajectory,
    walk,
)

F64 = torch.float64
ZERO_PRESERVING = ["relu", "tanh", "elu", "gelu", "leaky_relu", None]


def random_stack(seed: int, contract: bool | None = None):
    """A random graph, features and GCN stack in float64; with ``contract`` every layer is scaled to a norm below 1."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    n, depth = int(rng.integers(2, 13)), int(rng.integers(1, 9))
    edge_index = erdos_renyi(n, rng.uniform(0.1, 0.9), seed)
    widths = rng.integers(1, 6, size=depth + 1)
    scale = rng.uniform(0.2, 2.5)
    S = normalized_adjacency(edge_index, n, dtype=F64)
    layers = []
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        layer = GCN(int(a), int(b), rng.choice(np.array(ZERO_PRESERVING, dtype=object))).double()
        with torch.no_grad():
            layer.weight.copy_(scale * torch.randn(int(a), int(b), dtype=F64) / math.sqrt(b))
            if contract:
                layer.weight.mul_(rng.uniform(0.3, 0.99) / layer_norm_bound(layer, S))
        layers.append(layer)
    return layers, 10 * torch.randn(n, int(widths[0]), dtype=F64), S, edge_index


# ---------------------------------------------------------------- Lemma 4.1, Propositions 4.2 and 4.3

@pytest.mark.parametrize("block", range(10))
def test_lemma_4_1_and_the_inequalities_of_4_2_and_4_3_on_random_stacks(block):
    for seed in range(25 * block, 25 * (block + 1)):
        layers, x, S, _ = random_stack(seed)
        check = check_contraction(layers, x, S)
        assert check.fixes_zero, seed
        assert check.norm_bounded and check.energy_bounded, seed
        assert check.violations == [k for k, layer in enumerate(layers, 1) if layer_norm_bound(layer, S) >= 1]
        assert check.holds == check.contracts


@pytest.mark.parametrize("block", range(10))
def test_proposition_4_2_contractions_tend_to_zero_at_rate_c(block):
    for seed in range(1000 + 20 * block, 1000 + 20 * (block + 1)):
        layers, x, S, edge_index = random_stack(seed, contract=True)
        check = check_contraction(layers, x, S)
        assert check.holds and check.violations == [], seed
        c, K = check.norms.max(), len(layers)
        assert c < 1
        assert check.feature_norms[-1] <= c ** K * float(feature_norm(x)) * (1 + 1e-12)
        lam = float(spectrum(laplacian(edge_index, len(x), dtype=F64))[-1])
        assert check.energies[-1] <= lam * c ** (2 * K) * float(feature_norm(x)) ** 2 * (1 + 1e-9) + 1e-300


@pytest.mark.parametrize("seed", range(12))
def test_lemma_a_8_no_jacobian_and_no_difference_quotient_exceeds_the_bound(seed):
    layers, x, S, _ = random_stack(2000 + seed)
    for layer in layers:
        bound = layer_norm_bound(layer, S)
        for scale in (0.1, 1, 10):
            h = scale * torch.randn(len(x), layer.in_dim, dtype=F64)
            other = scale * torch.randn(len(x), layer.in_dim, dtype=F64)
            J = layer_jacobian(layer, h, S)
            assert float(torch.linalg.matrix_norm(J, 2)) <= bound * (1 + 1e-9)
            with torch.no_grad():
                assert float((layer(h, S) - layer(other, S)).norm()) <= bound * float((h - other).norm()) * (1 + 1e-9)


def test_the_bound_of_a_linear_layer_is_its_jacobian_norm():
    S, layer = normalized_adjacency(grid(3, 4), 12, dtype=F64), GCN(3, 5, None).double()
    J = layer_jacobian(layer, torch.randn(12, 3, dtype=F64), S)
    assert layer_norm_bound(layer, S) == pytest.approx(float(torch.linalg.matrix_norm(J, 2)), rel=1e-12)


def test_the_bound_of_a_gnn_ssm_is_that_of_proposition_3_3():
    S = normalized_adjacency(ring(7), 7, dtype=F64)
    B = torch.randn(4, 4, dtype=F64)
    layer = GNNSSM(GCN(4, 4, "tanh").double(), state_matrix(4, 0.9, dtype=F64), B)
    expected = 0.9 + operator_norm(B) * layer_norm_bound(layer.coupling, S)
    assert layer_norm_bound(layer, S) == pytest.approx(expected, rel=1e-12)
    for h in (torch.zeros(7, 4, dtype=F64), torch.randn(7, 4, dtype=F64)):
        assert float(torch.linalg.matrix_norm(layer_jacobian(layer, h, S), 2)) <= expected + 1e-9
    assert layer_norm_bound(GNNSSM(None, state_matrix(4, 0.5, dtype=F64)), S) == pytest.approx(0.5)


def test_a_planted_expanding_layer_is_caught():
    layers, x, S, _ = random_stack(7, contract=True)
    assert check_contraction(layers, x, S).holds
    planted = len(layers) // 2
    with torch.no_grad():
        layers[planted].weight.mul_(1.5 / layer_norm_bound(layers[planted], S))
    check = check_contraction(layers, x, S)
    assert check.violations == [planted + 1] and not check.contracts and not check.holds
    assert check.norm_bounded  # the inequality itself does not need contractions


def test_a_planted_false_norm_is_caught_by_both_inequalities():
    S = normalized_adjacency(path(4), 4, dtype=F64)
    layers = [GNNSSM(None, 1.2 * torch.eye(3, dtype=F64)) for _ in range(5)]
    top = torch.linalg.eigh(laplacian(path(4), 4, dtype=F64)).eigenvectors[:, -1:].repeat(1, 3)
    check = check_contraction(layers, top, S, norms=[0.9] * 5)  # what the layers do is ‖J‖ = 1.2
    assert check.contracts and not check.norm_bounded and not check.energy_bounded and not check.holds


@pytest.mark.parametrize("layer", [GCN(3, 3, "sigmoid"), GCN(3, 3, "relu", bias=True)])
def test_lemma_4_1_fails_where_its_assumptions_do(layer):
    if layer.bias is not None:
        torch.nn.init.constant_(layer.bias, 0.1)
    S = normalized_adjacency(ring(5), 5, dtype=F64)
    check = check_contraction([layer.double()], torch.randn(5, 3, dtype=F64), S)
    assert not check.fixes_zero and not check.holds


def test_nan_norms_count_as_violations_or_are_refused():
    S, x = normalized_adjacency(ring(5), 5, dtype=F64), torch.ones(5, 2, dtype=F64)
    with pytest.raises(ValueError, match="norms"):
        check_contraction([GCN(2, 2).double()], x, S, norms=[float("nan")])
    with pytest.raises(ValueError, match="one number for each"):
        check_contraction([GCN(2, 2).double()], x, S, norms=[0.5, 0.5])


# ---------------------------------------------------------------- the constant of Proposition 4.3

@pytest.mark.parametrize("seed", range(40))
def test_the_constants_of_proposition_4_3_are_ordered_and_hold(seed):
    n = 2 + seed % 11
    edge_index = erdos_renyi(n, 0.15 + 0.02 * seed, seed)
    c = energy_constants(edge_index, n)
    if edge_index.numel() == 0:
        assert set(c.values()) == {0.0}
        return
    assert c["largest_eigenvalue"] == pytest.approx(float(spectrum(laplacian(edge_index, n, dtype=F64))[-1]), rel=1e-9)
    slack = 1 + 1e-9
    assert c["largest_eigenvalue"] <= c["edge_degrees"] * slack
    assert c["edge_degrees"] <= min(c["max_degree"], c["edges_plus_one"])
    assert c["edges_plus_one"] <= c["twice_edges"] < c["paper"]
    h = torch.randn(n, 3, dtype=F64, generator=torch.Generator().manual_seed(seed))
    assert float(dirichlet_energy(h, edge_index)) <= c["largest_eigenvalue"] * float(feature_norm(h)) ** 2 * slack


@pytest.mark.parametrize("m", [1, 2, 5, 30])
def test_the_star_attains_m_plus_one_so_that_4m_is_never_attained(m):
    edge_index = star(m + 1)
    c = energy_constants(edge_index, m + 1)
    assert c["largest_eigenvalue"] == pytest.approx(m + 1, rel=1e-10)
    h = torch.full((m + 1, 1), -1.0, dtype=F64)
    h[0] = m
    energy = float(dirichlet_energy(h, edge_index))
    assert energy == pytest.approx((m + 1) * float(feature_norm(h)) ** 2, rel=1e-12)
    assert energy <= float(feature_norm(h)) ** 2 * c["paper"] / 2 + 1e-9


def test_the_sharp_bound_is_attained_by_the_top_eigenvector():
    edge_index = grid(3, 3)
    values, vectors = torch.linalg.eigh(laplacian(edge_index, 9, dtype=F64))
    layers = [GNNSSM(None, 0.8 * torch.eye(1, dtype=F64))] * 6
    run = trajectory(layers, vectors[:, -1:], edge_index)
    bound = sharp_energy_bound([0.8] * 6, 1.0, float(values[-1]))
    assert run["energy"].to_numpy() == pytest.approx(bound, rel=1e-11)
    assert (energy_bound([0.8] * 6, 1.0, 12) / bound == pytest.approx(48 / float(values[-1])))


def test_bounds_are_cumulative_products():
    assert contraction_bound([0.5, 2.0, 0.1], 4.0) == pytest.approx([4, 2, 4, 0.4])
    assert energy_bound([0.5], 2.0, 3) == pytest.approx([48, 12])
    with pytest.raises(ValueError, match="non-negative"):
        contraction_bound([-0.1], 1.0)
    with pytest.raises(ValueError, match="non-negative"):
        contraction_bound([0.1], float("nan"))


# ---------------------------------------------------------------- measures

@pytest.mark.parametrize("seed", range(10))
def test_dirichlet_energy_is_the_trace_and_the_sum_over_undirected_edges(seed):
    n = 3 + seed
    edge_index = erdos_renyi(n, 0.5, seed)
    h = torch.randn(n, 4, dtype=F64, generator=torch.Generator().manual_seed(seed))
    L = laplacian(edge_index, n, dtype=F64)
    by_hand = sum(float((h[u] - h[v]).square().sum()) for u, v in edge_index.T.tolist() if u < v)
    energy = float(dirichlet_energy(h, edge_index))
    assert energy == pytest.approx(by_hand, rel=1e-12, abs=1e-12)
    assert energy == pytest.approx(float(torch.trace(h.T @ L @ h)), rel=1e-10, abs=1e-10)


def weights_of(edge_index, seed):
    """Random weights, the same for both directions, some of them 0."""
    w = torch.rand(100, 100, dtype=F64, generator=torch.Generator().manual_seed(seed))
    w = (w * w.T * 4 - 0.5).clamp(min=0)
    return w[edge_index[0], edge_index[1]]


@pytest.mark.parametrize("seed", range(10))
def test_weighted_energy_is_the_trace_with_the_weighted_laplacian(seed):
    n = 3 + seed
    edge_index = torch.cat([erdos_renyi(n, 0.5, seed), torch.tensor([[1], [1]])], 1)  # a self-loop, which does not count
    h, w = torch.randn(2, n, 4, dtype=F64, generator=torch.Generator().manual_seed(seed)), weights_of(edge_index, seed)
    L = laplacian(edge_index, n, dtype=F64, edge_weight=w)
    expected = (h * (L @ h)).sum((-2, -1))
    assert torch.allclose(dirichlet_energy(h, edge_index, w), expected, rtol=1e-10, atol=1e-10)
    quotient = expected / h.square().sum((-2, -1))
    assert torch.allclose(rayleigh_quotient(1e-200 * h, edge_index, w), quotient, rtol=1e-10, atol=1e-10)
    assert torch.equal(dirichlet_energy(h, edge_index, torch.ones_like(w)), dirichlet_energy(h, edge_index))


def test_an_integer_weight_counts_an_edge_as_often():
    edge_index, times = ring(5), torch.tensor([3, 1, 0, 2, 4])
    lower = edge_index[0] - edge_index[1]
    w = times[torch.where((lower == 1) | (lower == -4), edge_index[0], edge_index[1])]  # edge (u - 1, u) has times[u]
    h = torch.randn(5, 3, dtype=F64)
    repeated = edge_index.repeat_interleave(w, 1)
    by_hand = (h[repeated[0]] - h[repeated[1]]).square().sum() / 2
    assert float(dirichlet_energy(h, edge_index, w.double())) == pytest.approx(float(by_hand), rel=1e-12)


@pytest.mark.parametrize("weight, error", [
    (torch.ones(3), ValueError), (-torch.ones(8), ValueError), (torch.arange(8.0), ValueError),
    (torch.full((8,), torch.nan), ValueError), (torch.ones(8, dtype=torch.int64), TypeError),
])
def test_measures_refuse_weights_that_are_none(weight, error):
    S = normalized_adjacency(ring(4), 4)
    for call in (lambda: dirichlet_energy(torch.ones(4, 2), ring(4), weight), lambda: rayleigh_quotient(
            torch.ones(4, 2), ring(4), weight), lambda: trajectory([], torch.ones(4, 2), S, edge_index=ring(4), edge_weight=weight)):
        with pytest.raises(error, match="edge_weight must"):
            call()


def test_energy_in_blocks_is_the_energy_in_one(monkeypatch):
    h, edge_index = torch.randn(2, 30, 5, dtype=F64), grid(5, 6)
    w = weights_of(edge_index, 0)
    whole, weighted = dirichlet_energy(h, edge_index), dirichlet_energy(h, edge_index, w)
    monkeypatch.setattr("gnnssm_lite.smoothing.CHUNK", 33)
    assert torch.allclose(dirichlet_energy(h, edge_index), whole, rtol=1e-13)
    assert torch.allclose(dirichlet_energy(h, edge_index, w), weighted, rtol=1e-13)
    assert whole.shape == (2,) and torch.allclose(whole[1], dirichlet_energy(h[1], edge_index))


def test_energy_of_constant_features_is_exactly_zero_and_self_loops_do_not_count():
    edge_index = torch.cat([ring(6), torch.arange(6).expand(2, -1)], 1)
    assert float(dirichlet_energy(torch.full((6, 3), 1.7), edge_index)) == 0.0
    h = torch.randn(6, 3)
    assert torch.equal(dirichlet_energy(h, edge_index), dirichlet_energy(h, ring(6)))


def test_energy_survives_where_float32_squares_do_not():
    h = 1e-30 * torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert h.dtype == torch.float32 and float((h * h).sum()) == 0
    assert 0 < float(dirichlet_energy(h, ring(20))) < 1e-56
    larger = float(rayleigh_quotient(1e30 * h, ring(20)))
    assert float(rayleigh_quotient(h, ring(20))) == pytest.approx(larger, rel=1e-6)


def test_energy_has_the_gradient_2_l_h():
    h, edge_index = torch.randn(6, 2, dtype=F64, requires_grad=True), ring(6)
    gradient, = torch.autograd.grad(dirichlet_energy(h, edge_index), h)
    assert torch.allclose(gradient, 2 * laplacian(edge_index, 6, dtype=F64) @ h.detach())
    assert torch.autograd.gradcheck(lambda x: rayleigh_quotient(x, edge_index), h)


@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1.0, 1e150])
def test_quotients_do_not_change_with_the_scale_and_lie_in_the_spectrum(scale):
    edge_index = grid(3, 5)
    h = torch.randn(15, 4, dtype=F64, generator=torch.Generator().manual_seed(1))
    S = normalized_adjacency(edge_index, 15, dtype=F64)
    low, high = spectrum(laplacian(edge_index, 15, dtype=F64))[[0, -1]].tolist()
    R, R_sym = rayleigh_quotient(scale * h, edge_index), normalized_rayleigh_quotient(scale * h, S)
    assert low <= float(R) <= high and 0 <= float(R_sym) < 2
    assert float(R) == pytest.approx(float(rayleigh_quotient(h, edge_index)), rel=1e-12)
    expected = torch.trace(h.T @ (torch.eye(15, dtype=F64) - S) @ h) / h.square().sum()
    assert float(R_sym) == pytest.approx(float(expected), rel=1e-12)
    sparse = normalized_adjacency(edge_index, 15, "sparse", F64)
    assert float(normalized_rayleigh_quotient(scale * h, sparse)) == pytest.approx(float(R_sym), rel=1e-12)


@pytest.mark.parametrize("form", [lambda S: S, lambda S: S.to_sparse_csr(), lambda S: S.to_sparse_coo(),
                                  lambda S: torch.stack([S.T @ S, S])])
def test_a_quotient_needs_a_symmetric_operator(form):
    """xᵀ(I - S)x sees the symmetric part of S only, whose eigenvalues are not those of S."""
    h, S = torch.randn(12, 4), form(torch.triu(torch.ones(12, 12)))
    with pytest.raises(ValueError, match=r"S must be symmetric; max \|S - Sᵀ\| = 1$"):
        normalized_rayleigh_quotient(h, S)
    rounded = normalized_adjacency(ring(12), 12, "sparse").to_dense()
    rounded[0, 1] *= 1 + 1e-7
    assert 0 <= float(normalized_rayleigh_quotient(h, rounded)) < 2
    assert float(normalized_rayleigh_quotient(h, rounded.to_sparse_coo())) == pytest.approx(
        float(normalized_rayleigh_quotient(h, rounded)), rel=1e-6)


def test_the_quotient_of_a_zero_matrix_is_refused_and_nan_in_a_trajectory():
    zero = torch.zeros(4, 2)
    for call in (lambda: rayleigh_quotient(zero, ring(4)),
                 lambda: normalized_rayleigh_quotient(zero, normalized_adjacency(ring(4), 4))):
        with pytest.raises(ValueError, match="all zero"):
            call()
    run = trajectory([lambda h, S: 0 * h], torch.ones(4, 2), normalized_adjacency(ring(4), 4))
    assert run["energy"].tolist() == [0, 0] and np.isnan(run["rayleigh"][1]) and run["rayleigh"][0] == 0


@pytest.mark.parametrize("h, edge_index, error", [
    (torch.ones(4, 2, dtype=torch.int64), ring(4), TypeError),
    (torch.full((4, 2), torch.nan), ring(4), ValueError),
    (torch.full((4, 2), torch.inf), ring(4), ValueError),
    (torch.ones(4), ring(4), ValueError),
    (torch.ones(3, 2), ring(4), ValueError),
    (torch.ones(4, 2), torch.tensor([[0, 1], [1, 2]]), ValueError),
    (torch.ones(4, 2), ring(4).float(), TypeError),
])
def test_measures_refuse_what_has_no_energy(h, edge_index, error):
    with pytest.raises(error):
        dirichlet_energy(h, edge_index)
    with pytest.raises(error):
        rayleigh_quotient(h, edge_index)


# ---------------------------------------------------------------- trajectories

@pytest.mark.parametrize("lam", [0.3, 0.9, 1.0, 1.05])
def test_norm_of_a_gnn_ssm_with_zero_coupling_decays_by_lambda_each_layer(lam):
    S, x = normalized_adjacency(grid(4, 4), 16, dtype=F64), torch.randn(16, 8, dtype=F64)
    coupling = GCN(8, 8, "tanh").double()
    torch.nn.init.zeros_(coupling.weight)
    for zero in (None, coupling):
        layer = GNNSSM(zero, state_matrix(8, lam, "identity", dtype=F64))
        norm = trajectory([layer] * 40, x, S)["norm"].to_numpy()
        assert np.abs(norm[1:] / norm[:-1] - lam).max() < 1e-12
        assert abs(decay_rate(norm) - lam) < 1e-12
        energy = trajectory([layer] * 40, x, S)["energy"].to_numpy()
        assert abs(decay_rate(energy) - lam ** 2) < 1e-12


def test_an_orthogonal_state_matrix_decays_by_lambda_as_well():
    x, S = torch.randn(10, 6, dtype=F64), normalized_adjacency(ring(10), 10, dtype=F64)
    layer = GNNSSM(None, state_matrix(6, 0.7, "orthogonal", torch.Generator().manual_seed(0), F64))
    norm = trajectory([layer] * 30, x, S, measures="norm")["norm"].to_numpy()
    assert np.abs(norm[1:] / norm[:-1] - 0.7).max() < 1e-12


def test_trajectory_is_the_measures_of_each_layer():
    layers, x, S, edge_index = random_stack(3)
    run, h = trajectory(layers, x, S), x
    assert list(run.columns) == ["layer", "energy", "norm", "rayleigh", "normalized_rayleigh"]
    assert run["layer"].tolist() == list(range(len(layers) + 1))
    for k, layer in enumerate([None, *layers]):
        h = h if layer is None else layer(h, S).detach()
        row = run.iloc[k]
        assert row["energy"] == pytest.approx(float(dirichlet_energy(h, edge_index)), rel=1e-12)
        assert row["norm"] == pytest.approx(float(feature_norm(h)), rel=1e-12)
        assert row["rayleigh"] == pytest.approx(float(rayleigh_quotient(h, edge_index)), rel=1e-12)
        assert row["normalized_rayleigh"] == pytest.approx(float(normalized_rayleigh_quotient(h, S)), abs=1e-12)


@pytest.mark.parametrize("loops", [False, True])
def test_weighted_trajectory_is_the_weighted_measures_of_each_layer(loops):
    """A self-loop keeps its weight in Â, and a node without one gets one of weight 1."""
    edge_index, n = grid(3, 4), 12
    edge_index = torch.cat([edge_index, torch.tensor([[2, 5], [2, 5]])], 1) if loops else edge_index
    w, x = 0.1 + weights_of(edge_index, 1), torch.randn(12, 3, dtype=F64)
    S = normalized_adjacency(edge_index, n, "sparse", F64, edge_weight=w)
    layers = [GCN(3, 3, "tanh").double() for _ in range(3)]
    run = trajectory(layers, x, S, edge_index=edge_index, edge_weight=w)
    for k, h in enumerate(walk(layers, x, S)):
        assert run["energy"][k] == pytest.approx(float(dirichlet_energy(h, edge_index, w)), rel=1e-12)
        assert run["rayleigh"][k] == pytest.approx(float(rayleigh_quotient(h, edge_index, w)), rel=1e-12)
        assert run["normalized_rayleigh"][k] == pytest.approx(float(normalized_rayleigh_quotient(h, S)), rel=1e-12)
    still = [lambda h, *graph: h]
    assert trajectory(still, x, edge_index, edge_weight=w).equals(trajectory(still, x, edge_index=edge_index, edge_weight=w))
    assert trajectory(still, x, S)["energy"][0] == pytest.approx(float(dirichlet_energy(x, edge_index)))  # its pattern
    with pytest.raises(ValueError, match="edge_index must be given with edge_weight"):
        trajectory(layers, x, S, edge_weight=w)


def test_every_source_of_edges_gives_the_same_trajectory():
    x, n = torch.randn(12, 3, dtype=F64), 12
    edge_index = grid(3, 4)
    layer = GNNSSM(None, state_matrix(3, 0.9, dtype=F64))
    graphs = [(edge_index,), *((operator(kind, edge_index, n, layout, F64),)
                               for kind in ("normalized", "adjacency", "mean") for layout in ("dense", "sparse"))]
    first, *others = (trajectory([layer] * 3, x, *graph) for graph in graphs)
    assert all(np.allclose(other, first, rtol=1e-12) for other in others)
    assert np.allclose(trajectory([layer] * 3, x, edge_index=edge_index), first)
    with pytest.raises(ValueError, match="edge_index"):
        trajectory([layer], x)
    assert len(trajectory([layer], x, measures=["norm"])) == 2  # a norm needs no edges


def test_trajectory_makes_layers_one_by_one_and_keeps_none():
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)
    alive: list[weakref.ref] = []
    most = 0

    def make():
        nonlocal most
        for _ in range(30):
            layer = GCN(4, 4)
            alive.append(weakref.ref(layer))
            yield layer
            del layer
            most = max(most, sum(ref() is not None for ref in alive))

    assert len(trajectory(make(), x, S)) == 31
    assert most <= 2  # the layer just applied, and the first


def test_walking_takes_no_gradients_and_leaves_the_mode_alone():
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)
    for h in walk([GCN(4, 4)] * 3, x, S):
        assert torch.is_grad_enabled() and not h.requires_grad
    assert [h.shape[-1] for h in walk([], x, S)] == [4]


def test_walk_lifts_features_and_reads_them_out():
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)
    features = list(walk([GraphCON(4) for _ in range(3)], x, S))
    assert torch.equal(features[0], x) and all(h.shape == x.shape for h in features)


class Reader(torch.nn.Module):
    """A reader's own layer, with parts that happen to be called as methods of this package's layers are."""

    def __init__(self, as_methods: bool = False) -> None:
        super().__init__()
        if not as_methods:
            self.lift, self.readout = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, h, S):
        return S @ self.readout(torch.tanh(self.lift(h)))


class ReaderWithMethods(Reader):
    def __init__(self) -> None:
        super().__init__(as_methods=True)

    def lift(self, h):
        return 2 * h

    def readout(self, h):
        return 3 * h


@pytest.mark.parametrize("make", [Reader, ReaderWithMethods])
def test_parts_of_a_readers_layer_are_applied_in_its_forward_only(make):
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)
    layer = make()
    first, last = walk([layer], x, S)
    assert torch.equal(first, x) and torch.equal(last, layer(x, S))
    assert trajectory([layer], x, S)["norm"].tolist() == [float(feature_norm(x)), float(feature_norm(layer(x, S).detach()))]
    net = Network(torch.nn.Identity(), [layer], torch.nn.Identity())
    assert torch.equal(net(x, S), layer(x, S))


def test_own_measures_and_refusals():
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)
    run = trajectory([ADGN(4)] * 2, x, S, measures={"largest": lambda h: h.abs().max(), "energy": None})
    assert list(run.columns) == ["layer", "largest", "energy"] and run["largest"][0] == float(x.abs().max())
    with pytest.raises(ValueError, match="measures must be among"):
        trajectory([ADGN(4)], x, S, measures=["enregy"])
    with pytest.raises(ValueError, match="nodes, features"):
        trajectory([ADGN(4)], x[None], S)


def test_what_is_no_stack_of_layers_is_named():
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)
    with pytest.raises(TypeError, match=r"layers\[1\], a function, must return a tensor; it returned tuple"):
        trajectory([GCN(4, 4), lambda h, S: (h, S)], x, S)
    for call in (trajectory, local_norms, check_contraction, projected_trajectory):
        with pytest.raises(TypeError, match=r"layers must be a list of layers.* it was a GCN \(for one layer: \[layer\]\)$"):
            call(GCN(4, 4), x, S)


@pytest.mark.parametrize(("layer", "shape"), [
    (lambda x, S: torch.cat([x, 100 * x]), "16, 4"), (lambda x, S: x.mean(0, keepdim=True), "1, 4"), (lambda x, S: x[:, 0], "8,")])
def test_a_layer_that_changes_the_nodes_is_named(layer, shape):
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)
    with pytest.raises(ValueError, match=rf"the 8 rows of h; after layers\[1\] the shape was \({shape}\)"):
        trajectory([GCN(4, 4), layer], x, S)


def test_dropout_as_a_function_is_warned_of():
    """The usual style, F.dropout(x, training=self.training), holds no module that could be seen."""
    S, x = normalized_adjacency(ring(8), 8), torch.randn(8, 4)

    class Dropping(nn.Module):
        def forward(self, h, S):
            return nn.functional.dropout(S @ h, training=self.training)

    for call in (lambda net: trajectory([net], x, S), lambda net: projected_trajectory([net], x, S)):
        with pytest.warns(UserWarning, match="layer draws random numbers") as caught:
            call(Dropping())
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(Dropping().eval())


def test_overflow_is_recorded_not_raised():
    S, x = normalized_adjacency(complete(5), 5), torch.ones(5, 2)
    run = trajectory([lambda h, S: h * 1e30] * 3, x, S)
    assert run["norm"][1] == pytest.approx(math.sqrt(10) * 1e30) and math.isinf(run["norm"][3])


def test_projection_is_linear_and_the_principal_plane_is_that_of_the_svd():
    S, x = normalized_adjacency(ring(9), 9, dtype=F64), torch.randn(9, 5, dtype=F64)
    layers = [GCN(5, 5, "tanh").double() for _ in range(4)]
    plane = principal_plane(x)
    assert torch.allclose(plane.T @ plane, torch.eye(2, dtype=F64), atol=1e-12)
    points = projected_trajectory(layers, x, S, projection=plane)
    assert points.shape == (5, 9, 2)
    assert np.square(points[0]).sum() == pytest.approx(float(torch.linalg.svdvals(x)[:2].square().sum()))
    assert np.allclose(projected_trajectory(layers, x, S)[0], x[:, :2])
    with pytest.raises(ValueError, match="dim"):
        principal_plane(x, 6)


def test_decay_rate_fits_what_is_there():
    values = 3 * 0.8 ** np.arange(20.0)
    values[[4, 9]] = 0, np.nan
    assert decay_rate(values) == pytest.approx(0.8, rel=1e-12)
    with pytest.raises(ValueError, match="at least two"):
        decay_rate([1.0, 0.0])


# ---------------------------------------------------------------- norms

def test_operator_norm_of_the_normalised_adjacency_is_one():
    for layout in ("dense", "sparse"):
        assert operator_norm(normalized_adjacency(grid(30, 30), 900, layout, F64)) == pytest.approx(1, abs=1e-10)
    # 300 components, so that 1 is a 300-fold eigenvalue
    pairs = torch.arange(900).reshape(300, 3)
    triangles = undirected(torch.cat([pairs[:, :2], pairs[:, 1:]]).T)
    assert operator_norm(normalized_adjacency(triangles, 900, "sparse")) == pytest.approx(1, abs=1e-6)
    assert operator_norm(normalized_adjacency(triangles, 900, "sparse", F64)) == pytest.approx(1, abs=1e-10)
    weight = torch.randn(4, 7, dtype=F64)
    assert operator_norm(weight) == pytest.approx(float(torch.linalg.svdvals(weight)[0]))


def test_everything_runs_on_the_sparse_operator_of_cora():
    edge_index = load_cora(split="random").edge_index
    S, x = normalized_adjacency(edge_index, 2708, "sparse", F64), torch.randn(2708, 4, dtype=F64)
    layers = [GCN(4, 4, "tanh").double() for _ in range(3)]
    check = check_contraction(layers, x, S)
    assert check.norms == pytest.approx([operator_norm(layer.weight) for layer in layers], rel=1e-9)
    assert check.norm_bounded and check.energy_bounded
    assert bool((local_norms(layers, x, S) <= check.norms * (1 + 1e-6)).all())


def test_large_sparse_laplacian_has_the_known_top_eigenvalue():
    c = energy_constants(grid(40, 40), 1600)
    assert c["largest_eigenvalue"] == pytest.approx(4 * (1 + math.cos(math.pi / 40)), rel=1e-8)


def test_local_norms_are_those_of_the_dense_jacobians():
    layers, x, S, _ = random_stack(12)
    h, expected = x, []
    for layer in layers:
        expected.append(float(torch.linalg.matrix_norm(layer_jacobian(layer, h, S), 2)))
        h = layer(h, S).detach()
    assert local_norms(layers, x, S) == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_bounds_refuse_layers_and_activations_they_do_not_know():
    S = normalized_adjacency(ring(5), 5)
    with pytest.raises(TypeError, match="GCN"):
        layer_norm_bound(GIN(2, 2), S)
    with pytest.raises(ValueError, match="lipschitz"):
        layer_norm_bound(GCN(2, 2, torch.sin), S)
    assert layer_norm_bound(GCN(2, 2, torch.sin), S, lipschitz=1.0) > 0


class ResidualGCN(GCN):
    def forward(self, h, S):
        return h + super().forward(h, S)


class ResidualSSM(GNNSSM):
    def forward(self, h, *graph):
        return h + super().forward(h, *graph)


class CalledGCN(GCN):
    def __call__(self, h, S):
        return h + super().__call__(h, S)


class NamedGCN(GCN):
    """Computes as its base class does."""


def patched(layer):
    inner = layer.forward
    layer.forward = lambda h, S: h + inner(h, S)
    return layer


@pytest.mark.parametrize("layer", [ResidualGCN(4, 4), CalledGCN(4, 4), patched(GCN(4, 4)), ResidualSSM(None, 0.1 * torch.eye(4)),
                                   GNNSSM(ResidualGCN(4, 4), 0.1 * torch.eye(4))])
def test_no_bound_is_certified_for_a_forward_pass_that_is_not_the_base_classes(layer):
    """With W = 0.1 I the bound of the base class is 0.1 or 0.2; the residual connection alone has norm 1."""
    S, h = normalized_adjacency(ring(12), 12), torch.randn(12, 4)
    with pytest.raises(TypeError, match="layer must be a GCN .* it was .*(GCN|SSM) with a forward of its own"):
        layer_norm_bound(layer, S)
    with pytest.raises(TypeError, match="forward of its own"):
        check_contraction([layer], h, S)


def test_a_subclass_that_computes_as_its_base_class_has_its_bound():
    S, layer = normalized_adjacency(ring(12), 12), NamedGCN(4, 4, None)
    assert layer_norm_bound(layer, S) == pytest.approx(operator_norm(layer.weight), rel=1e-6)
    torch.nn.utils.parametrizations.spectral_norm(layer, "weight", n_power_iterations=50)  # makes a subclass of its own
    assert layer_norm_bound(layer, S) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "elu", "gelu", "leaky_relu"])
def test_lipschitz_constants_are_the_largest_slopes(name):
    layer = GCN(1, 1, name).double()
    torch.nn.init.ones_(layer.weight)
    z = torch.linspace(-6, 6, 120001, dtype=F64, requires_grad=True)
    slope = float(torch.autograd.grad(layer.activation(z).sum(), z)[0].max())
    assert layer_norm_bound(layer, torch.ones(1, 1, dtype=F64)) == pytest.approx(slope, rel=1e-7)


# ---------------------------------------------------------------- as readers call it

def test_a_stack_may_hold_modules_without_a_graph_as_in_the_other_tools():
    edge_index, n = grid(4, 4), 16
    torch.manual_seed(0)
    h, first, last = torch.randn(n, 3), GCNConv(3, 3), GCNConv(3, 3)
    by_hand = lambda h, e: last(torch.relu(first(h, e)), e)  # noqa: E731
    run = trajectory([first, nn.ReLU(), last], h, edge_index)
    assert run.norm.iloc[-1] == pytest.approx(trajectory([by_hand], h, edge_index).norm.iloc[-1], rel=1e-6)
    norms = local_norms([first, nn.ReLU(), last], h, edge_index)
    assert norms[1] == pytest.approx(1.0, rel=1e-5) and norms[0] == pytest.approx(float(torch.linalg.matrix_norm(first.lin.weight.detach(), 2)), rel=1e-4)
    with pytest.raises(Exception) as caught:
        trajectory([first, GCNConv(2, 2)], h, edge_index)
    assert "layers[1], a GCNConv" in caught.value.__notes__[0]


def test_layers_that_work_in_place_leave_the_callers_features_alone():
    edge_index, n = grid(4, 4), 16
    torch.manual_seed(0)
    h, conv = torch.randn(n, 3), GCNConv(3, 3)
    kept = h.clone()
    plain = trajectory([lambda h, e: conv(torch.relu(h), e)], h, edge_index)
    for _ in range(2):
        assert trajectory([lambda h, e: conv(torch.relu_(h), e)], h, edge_index).equals(plain)
    assert torch.equal(h, kept)


def test_edges_are_those_of_the_edge_index_even_behind_a_square_feature_matrix():
    """Layers such as GCNII's take the first features before the edges; one-hot ones have the shape of an operator."""
    edge_index, x = grid(4, 4), torch.eye(16)
    layers = [GCN2Conv(16, alpha=0.1) for _ in range(2)]
    run = trajectory(layers, x, x, edge_index)
    assert run.equals(trajectory(layers, x, x, edge_index, edge_index=edge_index)) and run.energy.iloc[0] == edge_index.shape[1]


def test_layers_in_training_mode_are_warned_of_along_a_trajectory():
    edge_index, h = grid(4, 4), torch.randn(16, 3)
    with pytest.warns(UserWarning, match=r"layer holds Dropout in training mode.*eval\(\)"):
        trajectory([GCNConv(3, 3), nn.Dropout()], h, edge_index)
