"""Layers that discretise dynamical systems: each equals a known layer, or obeys a law of its own exactly."""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_geometric.nn import AntiSymmetricConv, GCN2Conv, GCNConv

from gnnssm_lite.graphs import barbell, complete, erdos_renyi, grid, normalized_adjacency, operator, ring, star
from gnnssm_lite.jacobian import eigenvalues, layer_jacobian, singular_values
from gnnssm_lite.models import ADGN, DGC, GCN, GCNII, GPS, GRAND, PHDGN, SWAN, GraphCON, build

F64 = torch.float64
LAYERS = {
    "DGC": lambda: DGC(4, 2.0, 10),
    "GRAND": lambda: GRAND(4, 0.3, heads=2),
    "ADGN": lambda: ADGN(4, bias=True),
    "SWAN": lambda: SWAN(4, beta=0.7, bias=True),
    "GCNII": lambda: GCNII(4, activation="tanh"),
    "GCNII*": lambda: GCNII(4, shared_weights=False, activation="tanh"),
    "GraphCON": lambda: GraphCON(4, 0.5, 0.3, 0.8, "tanh"),
    "PHDGN": lambda: PHDGN(4, bias=True),
    "PHDGN damped and forced": lambda: PHDGN(4, damping=0.4, forcing=0.6),
}
FROM_INITIAL = ("GRAND", "GCNII", "GCNII*")
GRAPHS = {"grid": (grid(3, 4), 12), "star": (star(7), 7), "random": (erdos_renyi(9, 0.3, 4), 9)}


def make(name: str, seed: int = 0):
    torch.manual_seed(seed)
    layer = LAYERS[name]().double()
    for parameter in layer.parameters():  # biases too, which start at zero
        torch.nn.init.normal_(parameter, std=0.7)
    return layer


def state_of(layer, n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, layer.in_dim, dtype=F64, generator=torch.Generator().manual_seed(seed))


def operators(layer, edge_index, n, layout="dense"):
    return operator(layer.operator, edge_index, n, layout, F64)


# ---------------------------------------------------------------- laws of every layer

@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", LAYERS)
def test_permuting_the_nodes_permutes_the_output(name, graph):
    (edge_index, n), layer = GRAPHS[graph], make(name)
    S, h, h0 = operators(layer, edge_index, n), state_of(layer, n), state_of(layer, n, 1)
    extra = (h0,) if name in FROM_INITIAL else ()
    out = layer(h, S, *extra)
    for seed in range(3):
        p = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        permuted = layer(h[p], S[p][:, p], *(x[p] for x in extra))
        assert torch.allclose(permuted, out[p], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_dense_sparse_and_batched_operators_give_equal_numbers(name):
    layer, (edge_index, n) = make(name), GRAPHS["random"]
    S, h, h0 = operators(layer, edge_index, n), state_of(layer, n), state_of(layer, n, 1)
    extra = (h0,) if name in FROM_INITIAL else ()
    out = layer(h, S, *extra)
    assert torch.allclose(layer(h, operators(layer, edge_index, n, "sparse"), *extra), out, rtol=1e-12, atol=1e-12)
    other = operators(layer, ring(n), n)
    batch = layer(torch.stack([h, 2 * h]), torch.stack([S, other]), *(torch.stack([x, x]) for x in extra))
    assert torch.allclose(batch[0], out, rtol=1e-12, atol=1e-12)
    assert torch.allclose(batch[1], layer(2 * h, other, *extra), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name):
    layer = make(name)
    S, h = operators(layer, ring(5), 5), state_of(layer, 5).requires_grad_(True)
    inputs = (h, state_of(layer, 5, 1).requires_grad_(True)) if name in FROM_INITIAL else (h,)
    assert torch.autograd.gradcheck(lambda *x: layer(x[0], S, *x[1:]), inputs)
    names, values = zip(*layer.named_parameters(), strict=True) if list(layer.parameters()) else ((), ())
    if values:
        def call(*values):
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (h.detach(), S))
        assert torch.autograd.gradcheck(call, tuple(v.detach().requires_grad_(True) for v in values))


@pytest.mark.parametrize("name", LAYERS)
def test_sparse_operators_give_the_gradients_of_dense_ones(name):
    layer, (edge_index, n) = make(name), GRAPHS["grid"]
    h, gradients = state_of(layer, n), []
    for layout in ("dense", "sparse"):
        x = h.clone().requires_grad_(True)
        out = layer(x, operators(layer, edge_index, n, layout)).square().sum()
        gradients.append(torch.autograd.grad(out, [x, *layer.parameters()]))
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-11) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", LAYERS)
def test_readout_undoes_lift(name):
    layer, h = make(name), torch.randn(5, 4, dtype=F64)
    state = layer.lift(h)
    assert state.shape == (5, layer.in_dim) and torch.equal(layer.readout(state), h)


@pytest.mark.parametrize("name", LAYERS)
def test_jacobian_is_exact_through_the_shared_interface(name):
    layer = make(name)
    S, h = operators(layer, ring(5), 5), state_of(layer, 5)
    J, d = layer_jacobian(layer, h, S), 1e-6
    direction = state_of(layer, 5, 3)
    with torch.no_grad():
        slope = (layer(h + d * direction, S) - layer(h - d * direction, S)) / (2 * d)
    assert torch.allclose(J @ direction.T.reshape(-1), slope.T.reshape(-1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", LAYERS)
def test_misfits_are_refused(name):
    layer = make(name)
    S, h = operators(layer, ring(5), 5), state_of(layer, 5)
    with pytest.raises(ValueError, match="features"):
        layer(torch.cat([h, h], -1), S)
    with pytest.raises(ValueError, match="S must have shape"):
        layer(h, operators(layer, ring(6), 6))
    with pytest.raises(TypeError, match="dtype"):
        layer(h, S.float())
    if name in FROM_INITIAL:
        with pytest.raises(ValueError, match="h0"):
            layer(h, S, h[:3])


@pytest.mark.parametrize("build, match", [
    (lambda: DGC(4, -1.0), "terminal_time"), (lambda: DGC(4, 1.0, 0), "steps"),
    (lambda: ADGN(4, epsilon=math.nan), "epsilon"),
    (lambda: GRAND(4, heads=3), "heads"), (lambda: GCNII(4, alpha=1.5), "alpha"), (lambda: GCNII(4, layer=0), "layer"),
    (lambda: PHDGN(4, damping=-0.1), "damping"), (lambda: GraphCON(0), "dim"),
    (lambda: SWAN(4, gamma=math.inf), "gamma"), (lambda: ADGN(4, operator="sum"), "operator"),
    (lambda: PHDGN(4, operator="random_walk"), "operator"),
])
def test_bad_options_are_refused_by_name(build, match):
    with pytest.raises(ValueError, match=match):
        build()
    with pytest.raises(TypeError, match="epsilon"):
        ADGN(4, epsilon="0.1")


# ---------------------------------------------------------------- DGC

@pytest.mark.parametrize("edge_index, n", [(ring(9), 9), (grid(3, 4), 12), (barbell(4, 1), 9)])
def test_dgc_after_k_steps_is_its_closed_form(edge_index, n):
    S, h, T, K = normalized_adjacency(edge_index, n, dtype=F64), torch.randn(n, 3, dtype=F64), 3.0, 12
    values, vectors = torch.linalg.eigh(S)
    expected = vectors @ ((1 - T / K + T / K * values) ** K).diag() @ vectors.T @ h
    out, layer = h, DGC(3, T, K)
    for _ in range(K):
        out = layer(out, S)
    assert torch.allclose(out, expected, rtol=1e-11, atol=1e-12)


def test_dgc_is_powers_of_the_operator_at_t_equal_k_and_tends_to_the_heat_kernel():
    S, h = normalized_adjacency(grid(3, 4), 12, dtype=F64), torch.randn(12, 3, dtype=F64)
    assert torch.allclose(DGC(3, 7.0, 7)(h, S), S @ h, atol=1e-14)
    kernel = torch.linalg.matrix_exp(-2.0 * (torch.eye(12, dtype=F64) - S)) @ h
    errors = []
    for K in (50, 100, 200):
        out, layer = h, DGC(3, 2.0, K)
        for _ in range(K):
            out = layer(out, S)
        errors.append(float((out - kernel).norm()))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)  # first order in T/K
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("layer", [DGC(3, 2.0, 5), ADGN(3, 0.2, 0.1, None)])
def test_linear_steps_have_the_kronecker_form(layer):
    layer, S, h = layer.double(), normalized_adjacency(star(5), 5, dtype=F64), torch.randn(5, 3, dtype=F64)
    exact = singular_values(layer, h, S, method="kronecker")
    assert torch.allclose(exact, singular_values(layer, h, S, method="dense"), atol=1e-10)


# ---------------------------------------------------------------- GRAND

@pytest.mark.parametrize("heads", [1, 2, 4])
def test_grand_attention_is_a_row_stochastic_matrix_on_the_closed_edges(heads):
    torch.manual_seed(0)
    layer, A = GRAND(4, 1.0, heads).double(), operator("adjacency", grid(3, 4), 12, dtype=F64)
    h0 = 3 * torch.randn(12, 4, dtype=F64)
    attention = layer.attention(h0, A)
    assert torch.allclose(attention.sum(-1), torch.ones(12, dtype=F64), atol=1e-14) and bool((attention >= 0).all())
    assert torch.equal(attention > 0, (A + torch.eye(12, dtype=F64)) > 0)
    sparse = layer.attention(h0, operator("adjacency", grid(3, 4), 12, "sparse", F64))
    assert torch.allclose(attention, sparse, atol=1e-15)


def test_grand_attention_is_scaled_dot_product_softmax_entry_by_entry():
    layer, A = make("GRAND"), operator("adjacency", star(4), 4, dtype=F64)
    h0 = torch.randn(4, 4, dtype=F64)
    expected = torch.zeros(4, 4, dtype=F64)
    for head in (slice(0, 2), slice(2, 4)):
        Q, K = layer.query.weight[head].detach(), layer.key.weight[head].detach()
        for u in range(4):
            closed = [v for v in range(4) if A[u, v] or u == v]
            score = torch.stack([(Q @ h0[u]) @ (K @ h0[v]) / math.sqrt(2) for v in closed])
            expected[u, closed] += score.exp() / score.exp().sum() / 2
    assert torch.allclose(layer.attention(h0, A), expected, atol=1e-14)


def test_grand_averages_at_epsilon_one_keeps_constants_and_the_range():
    layer, A = make("GRAND"), operator("adjacency", grid(3, 4), 12, dtype=F64)
    h, h0 = torch.randn(12, 4, dtype=F64), torch.randn(12, 4, dtype=F64)
    constant = torch.ones(12, 1, dtype=F64) @ torch.randn(1, 4, dtype=F64)
    assert torch.allclose(layer(constant, A, h0), constant, atol=1e-14)
    layer.epsilon = 1.0
    assert torch.allclose(layer(h, A, h0), layer.attention(h0, A) @ h, atol=1e-14)
    out = layer(h, A, h0)
    assert bool((out.amax(0) <= h.amax(0) + 1e-14).all()) and bool((out.amin(0) >= h.amin(0) - 1e-14).all())


def test_grand_is_linear_in_h_once_the_attention_is_fixed():
    layer, A = make("GRAND"), operator("adjacency", ring(8), 8, dtype=F64)
    h0 = torch.randn(8, 4, dtype=F64)
    expected = torch.kron(torch.eye(4, dtype=F64), torch.eye(8, dtype=F64) * 0.7 + 0.3 * layer.attention(h0, A))
    for h in (h0, torch.randn(8, 4, dtype=F64)):
        assert torch.allclose(layer_jacobian(layer, h, A, h0), expected.detach(), atol=1e-13)


def test_nonlinear_grand_takes_its_attention_of_the_present_features():
    edge_index, n = GRAPHS["random"]
    net = build("GRAND", 3, 1, 4, 3, nonlinear=True, epsilon=0.3).double()
    layer, (S,) = net.layers[0], net.graph_arguments(edge_index, n, dtype=F64)
    *_, last = net.states(h := torch.randn(n, 4, dtype=F64), S)
    assert not layer.needs_initial and GRAND(4).needs_initial
    expected = h
    for _ in range(3):
        expected = expected + 0.3 * (layer.attention(expected, S) @ expected - expected)
    fixed = h
    for _ in range(3):
        fixed = fixed + 0.3 * (layer.attention(h, S) @ fixed - fixed)
    assert torch.allclose(last, expected, atol=1e-12) and not torch.allclose(last, fixed, atol=1e-6)


def test_grand_with_zero_query_is_the_mean_over_the_closed_neighbourhood():
    layer, A = make("GRAND"), operator("adjacency", star(6), 6, dtype=F64)
    torch.nn.init.zeros_(layer.query.weight)
    closed = A + torch.eye(6, dtype=F64)
    expected = closed / closed.sum(-1, keepdim=True)
    assert torch.allclose(layer.attention(torch.randn(6, 4, dtype=F64), A), expected, atol=1e-15)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_grand_prepared_once_gives_the_same_numbers_and_gradients(layout):
    layer, A = make("GRAND"), operator("adjacency", grid(3, 4), 12, layout, F64)
    found = []
    for prepared in (False, True):
        layer.zero_grad()
        h0 = torch.randn(12, 4, dtype=F64, generator=torch.Generator().manual_seed(0), requires_grad=True)
        start, h = layer.prepare(h0, A) if prepared else h0, h0
        for _ in range(3):
            h = layer(h, A, start)
        h.square().sum().backward()
        found.append((h.detach(), h0.grad, layer.query.weight.grad.clone(), layer.key.weight.grad.clone()))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*found, strict=True))
    assert float(found[0][2].abs().max()) > 1e-4


@pytest.mark.parametrize(("shared", "times"), [(True, 1), (False, 6)])
def test_a_network_computes_the_attention_of_grand_once_a_layer_of_its_own(monkeypatch, shared, times):
    calls, attention = [], GRAND.attention
    monkeypatch.setattr(GRAND, "attention", lambda self, h0, S: calls.append(1) or attention(self, h0, S))
    net = build("GRAND", 3, 2, 4, 6, shared=shared).double()
    net(torch.randn(12, 3, dtype=F64), operator("adjacency", grid(3, 4), 12, dtype=F64))
    assert len(calls) == times


# ---------------------------------------------------------------- GCNII and A-DGN against torch-geometric

@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("theta, k", [(0.5, 1), (1.5, 8), (None, 1)])
@pytest.mark.parametrize("graph", GRAPHS)
def test_gcnii_equals_gcn2conv(shared, theta, k, graph):
    torch.manual_seed(0)
    edge_index, n = GRAPHS[graph]
    ours = GCNII(5, 0.3, theta, k, shared, activation=None)
    theirs = GCN2Conv(5, 0.3, theta, None if theta is None else k, shared_weights=shared)
    with torch.no_grad():
        theirs.weight1.copy_(ours.weight)
        if not shared:
            theirs.weight2.copy_(ours.initial_weight)
    h, h0 = torch.randn(n, 5), torch.randn(n, 5)
    assert torch.allclose(ours(h, normalized_adjacency(edge_index, n), h0), theirs(h, h0, edge_index), atol=1e-5)


def test_gcnii_reduces_to_gcn_and_to_the_identity():
    h, S = torch.randn(6, 3), normalized_adjacency(ring(6), 6)
    layer, gcn = GCNII(3, alpha=0.0, theta=None), GCN(3, 3)
    with torch.no_grad():
        gcn.weight.copy_(layer.weight)
    assert torch.allclose(layer(h, S, torch.randn(6, 3)), gcn(h, S), atol=1e-6)
    h0 = torch.randn(6, 3)
    assert torch.allclose(GCNII(3, alpha=1.0, theta=0.0, activation=None)(h, S, h0), h0)


@pytest.mark.parametrize("gamma, bias, activation", [(0.1, True, "tanh"), (0.0, False, "relu"), (-0.2, True, None)])
@pytest.mark.parametrize("kind", ["normalized", "adjacency"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_adgn_equals_antisymmetricconv(gamma, bias, activation, kind, graph):
    torch.manual_seed(0)
    edge_index, n = GRAPHS[graph]
    ours = ADGN(5, 0.3, gamma, activation, bias=bias, operator=kind)
    phi = GCNConv(5, 5, bias=False) if kind == "normalized" else GCNConv(5, 5, bias=False, normalize=False)
    theirs = AntiSymmetricConv(5, phi, num_iters=3, epsilon=0.3, gamma=gamma, act=activation, bias=bias)
    with torch.no_grad():
        theirs.W.copy_(ours.W)
        theirs.phi.lin.weight.copy_(ours.coupling.weight.T)
        if bias:
            ours.bias.normal_()
            theirs.bias.copy_(ours.bias)
    h, S = torch.randn(n, 5), operator(ours.operator, edge_index, n)
    assert ours.operator == kind
    assert torch.allclose(ours(ours(ours(h, S), S), S), theirs(h, edge_index), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------- antisymmetry

def without_coupling(gamma: float, activation: str | None = "tanh") -> ADGN:
    torch.manual_seed(1)
    layer = ADGN(6, 0.2, gamma, activation).double()
    torch.nn.init.zeros_(layer.coupling.weight)
    return layer


@pytest.mark.parametrize("gamma", [0.0, 0.3, -0.3])
def test_adgn_field_without_coupling_has_eigenvalues_on_one_side_that_gamma_picks(gamma):
    layer, S, h = without_coupling(gamma), normalized_adjacency(ring(4), 4, dtype=F64), torch.randn(4, 6, dtype=F64)
    values = torch.linalg.eigvals(layer_jacobian(layer.field, h, S))
    if gamma == 0:
        assert float(values.real.abs().max()) < 1e-12 and float(values.imag.abs().max()) > 0.1
    else:
        assert bool((values.real * gamma < 0).all())
    weight = layer.state_weight().detach()
    assert torch.allclose(weight + weight.T, -2 * gamma * torch.eye(6, dtype=F64), atol=1e-15)


def test_the_linear_adgn_step_leaves_the_unit_circle_by_exactly_one_plus_epsilon_squared_mu_squared():
    layer, S = without_coupling(0.0, None), normalized_adjacency(ring(4), 4, dtype=F64)
    mu = torch.linalg.eigvals(layer.state_weight().detach()).imag
    modulus = eigenvalues(layer, torch.zeros(4, 6, dtype=F64), S, method="dense").abs().sort().values
    expected = (1 + 0.2 ** 2 * mu ** 2).sqrt().repeat_interleave(4).sort().values
    assert torch.allclose(modulus, expected, atol=1e-12) and float(modulus[0]) >= 1


def test_adgn_with_its_coupling_is_not_antisymmetric_over_the_graph():
    layer, S, h = make("ADGN"), normalized_adjacency(grid(3, 3), 9, dtype=F64), torch.randn(9, 4, dtype=F64)
    layer.gamma = 0.0
    assert float(torch.linalg.eigvals(layer_jacobian(layer.field, h, S)).real.abs().max()) > 1e-2


@pytest.mark.parametrize("graph", GRAPHS)
def test_swan_operator_is_antisymmetric_over_the_whole_graph(graph):
    edge_index, n = GRAPHS[graph]
    torch.manual_seed(2)
    layer, A = SWAN(4, gamma=0.0, beta=0.7).double(), operator("adjacency", edge_index, n, dtype=F64)
    h = torch.randn(n, 4, dtype=F64)
    M = layer_jacobian(layer.preactivation, h, A)
    assert float((M + M.T).abs().max()) < 1e-14
    values = torch.linalg.eigvals(layer_jacobian(layer.field, h, A))  # diag(σ') M, still imaginary
    assert float(values.real.abs().max()) < 1e-10 and float(values.imag.abs().max()) > 0.1
    layer.gamma = 0.2
    assert float(torch.linalg.eigvals(layer_jacobian(layer.field, h, A)).real.max()) < 0


def test_swan_operator_is_the_stated_kronecker_sum():
    edge_index, n = GRAPHS["star"]
    layer, A = SWAN(3, gamma=0.1, beta=0.7).double(), operator("adjacency", edge_index, n, dtype=F64)
    degree = A.sum(-1)
    symmetric, row = A / (degree[:, None] * degree).sqrt(), A / degree[:, None]
    W, V, Z = layer.W.detach(), layer.V.detach(), layer.Z.detach()
    expected = (torch.kron(W - W.T - 0.1 * torch.eye(3, dtype=F64), torch.eye(n, dtype=F64))
                + torch.kron(V - V.T, symmetric) + 0.7 * torch.kron(Z + Z.T, row - row.T))
    assert torch.allclose(layer_jacobian(layer.preactivation, torch.randn(n, 3, dtype=F64), A), expected, atol=1e-14)


def test_swan_without_space_terms_is_adgn_without_coupling_and_isolated_nodes_are_finite():
    adgn, swan = without_coupling(0.1), SWAN(6, 0.2, 0.1, beta=0.0).double()
    with torch.no_grad():
        swan.W.copy_(adgn.W)
        swan.V.zero_()
    h, A = torch.randn(5, 6, dtype=F64), operator("adjacency", torch.tensor([[0, 1], [1, 0]]), 5, dtype=F64)
    assert torch.allclose(swan(h, A), adgn(h, A), atol=1e-14)
    assert bool(torch.isfinite(SWAN(6, beta=0.7).double()(h, A)).all())


# ---------------------------------------------------------------- GraphCON

def test_graphcon_at_unit_parameters_is_the_plain_layer():
    torch.manual_seed(0)
    layer, gcn, S = GraphCON(4), GCN(4, 4), normalized_adjacency(grid(3, 3), 9)
    with torch.no_grad():
        gcn.weight.copy_(layer.coupling.weight)
    h = torch.randn(9, 4)
    state = layer.lift(h)
    for _ in range(3):
        state, h = layer(state, S), gcn(h, S)
        assert torch.allclose(layer.readout(state), h, atol=1e-5)


@pytest.mark.parametrize("epsilon, alpha", [(0.1, 0.0), (0.5, 0.0), (0.3, 0.4), (1.0, 1.0)])
def test_graphcon_changes_volume_by_its_damping_alone(epsilon, alpha):
    torch.manual_seed(0)
    layer = GraphCON(3, epsilon, alpha, 0.7, "tanh").double()
    S, state = normalized_adjacency(star(5), 5, dtype=F64), torch.randn(5, 6, dtype=F64)
    J = layer_jacobian(layer, state, S)
    assert float(torch.linalg.det(J)) == pytest.approx((1 - epsilon * alpha) ** 15, abs=1e-12)


def test_undamped_linear_graphcon_conserves_the_energy_of_its_step_exactly_and_its_own_to_first_order():
    gamma, S = 0.8, normalized_adjacency(ring(6), 6, dtype=F64)
    start, errors = torch.randn(6, 4, dtype=F64), []
    for epsilon in (0.02, 0.01):
        layer = GraphCON(2, epsilon, 0.0, gamma, None).double()
        torch.nn.init.zeros_(layer.coupling.weight)
        state, energy, shadow = start, [], []
        for _ in range(2000):
            x, y = state.chunk(2, -1)
            energy.append(float(gamma * x.square().sum() + y.square().sum()))
            shadow.append(energy[-1] - epsilon * gamma * float((x * y).sum()))
            state = layer(state, S).detach()
        assert np.ptp(shadow) < 1e-11 * abs(shadow[0])
        errors.append(np.ptp(energy) / energy[0])
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


# ---------------------------------------------------------------- PH-DGN

def omega(n: int, d: int) -> torch.Tensor:
    zero, eye = torch.zeros(n * d, n * d, dtype=F64), torch.eye(n * d, dtype=F64)
    return torch.cat([torch.cat([zero, eye], 1), torch.cat([-eye, zero], 1)])


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("epsilon, kind", [(0.05, "normalized"), (0.5, "normalized"), (0.1, "adjacency")])
def test_phdgn_step_is_symplectic(graph, epsilon, kind):
    edge_index, n = GRAPHS[graph]
    layer = make("PHDGN")
    layer.epsilon, layer.operator = epsilon, PHDGN(4, operator=kind).operator
    assert layer.operator == kind
    J = layer_jacobian(layer, state_of(layer, n), operator(kind, edge_index, n, dtype=F64))
    assert float((J.T @ omega(n, 4) @ J - omega(n, 4)).abs().max()) < 1e-10
    assert float(torch.linalg.det(J)) == pytest.approx(1, abs=1e-10)


def test_phdgn_step_follows_the_gradient_of_its_hamiltonian():
    layer, S = make("PHDGN"), normalized_adjacency(grid(3, 3), 9, dtype=F64)
    state = state_of(layer, 9).requires_grad_(True)
    dq, dp = torch.autograd.grad(layer.hamiltonian(state, S), state)[0].chunk(2, -1)
    q, p = state.detach().chunk(2, -1)
    new_q = q + layer.epsilon * dp
    moved = torch.cat([new_q, p], -1).requires_grad_(True)
    new_p = p - layer.epsilon * torch.autograd.grad(layer.hamiltonian(moved, S), moved)[0].chunk(2, -1)[0]
    assert torch.allclose(layer(state, S), torch.cat([new_q, new_p], -1), atol=1e-13)


def energy_error(layer, S, state, steps):
    values = []
    with torch.no_grad():
        for _ in range(steps):
            values.append(float(layer.hamiltonian(state, S)))
            state = layer(state, S)
    return np.array(values) / values[0] - 1


def test_phdgn_conserves_its_energy_to_first_order_and_without_drift():
    torch.manual_seed(0)
    layer, S = PHDGN(3).double(), normalized_adjacency(ring(6), 6, dtype=F64)
    start = torch.randn(6, 6, dtype=F64)
    errors = []
    for epsilon in (0.1, 0.05):
        layer.epsilon = epsilon
        error = energy_error(layer, S, start, round(400 / epsilon))
        errors.append(np.abs(error).max())
        early, late = error[:len(error) // 4], error[-len(error) // 4:]
        assert np.abs(late).max() < 1.5 * np.abs(early).max()              # bounded for all times
        assert abs(late.mean() - early.mean()) < 0.3 * errors[-1]          # and not drifting inside its bounds
    assert errors[0] < 0.1 and errors[0] / errors[1] == pytest.approx(2, rel=0.25)


def test_damping_takes_energy_away_and_forcing_keeps_the_volume():
    torch.manual_seed(0)
    S, start = normalized_adjacency(ring(6), 6, dtype=F64), torch.randn(6, 6, dtype=F64)
    damped = PHDGN(3, 0.05, damping=0.5).double()
    assert energy_error(damped, S, start, 2000)[-1] < -0.9
    forced = PHDGN(3, 0.2, forcing=0.8).double()
    assert float(torch.linalg.det(layer_jacobian(forced, start, S))) == pytest.approx(1, abs=1e-10)
    assert float(torch.linalg.det(layer_jacobian(PHDGN(3, 0.2, damping=0.5).double(), start, S))) < 0.9


def test_hamiltonian_does_not_overflow():
    layer = PHDGN(3).double()
    S, state = normalized_adjacency(complete(4), 4, dtype=F64), 1e4 * torch.randn(4, 6, dtype=F64)
    with torch.no_grad():
        assert math.isfinite(float(layer.hamiltonian(state, S)))
        assert float(layer.hamiltonian(0 * state, S)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("make", [lambda c: ADGN(4, coupling=c), lambda c: GraphCON(4, coupling=c), lambda c: GPS(4, coupling=c)],
                         ids=["A-DGN", "GraphCON", "GPS"])
def test_a_coupling_that_takes_edge_index_is_refused_where_an_operator_is_given(make):
    with pytest.raises(TypeError, match="coupling must be called as .* GCNConv, which takes edge_index"):
        make(GCNConv(4, 4))
    make(GCN(4, 4))
