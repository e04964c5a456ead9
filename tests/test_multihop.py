"""DRew and its delay: equal to a plain recursion, and to a state-space model with a longer state."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.nn import GCNConv

from gnnssm_lite.graphs import (
    barbell,
    erdos_renyi,
    grid,
    khop_shells,
    normalized_adjacency,
    path,
    ring,
    shortest_path_lengths,
    star,
    symmetric_eigen,
)
from gnnssm_lite.jacobian import layer_jacobian, product_jacobian
from gnnssm_lite.models import (
    GCN,
    DelayGCN,
    DRewGCN,
    batch_shell_operators,
    companion_matrix,
    delay_state_space,
    kGCN,
    shell_operators,
)
from gnnssm_lite.smoothing import trajectory, walk

F64 = torch.float64
GRAPHS = {"grid": (grid(3, 4), 12), "star": (star(6), 6), "barbell": (barbell(3, 2), 8),
          "random": (erdos_renyi(9, 0.2, 3), 9)}


def recursion(network: DRewGCN, h: torch.Tensor, shells: list, nu: int | None, activation) -> list[torch.Tensor]:
    """The equation of DRew, written out with all layers kept."""
    states = [h]
    for t, layer in enumerate(network.layers):
        total = torch.zeros_like(h)
        for k in range(1, t + 2):
            if k <= min(len(shells), layer.hops):
                delay = 0 if nu is None else max(0, k - nu)
                total = total + shells[k - 1] @ states[t - delay] @ layer.weight[k - 1]
        states.append(states[t] + activation(total))
    return states


# ---------------------------------------------------------------- shells

@pytest.mark.parametrize("graph", GRAPHS)
def test_shell_operators_normalise_each_distance_on_its_own(graph):
    edge_index, n = GRAPHS[graph]
    shells = shell_operators(edge_index, n, 10, dtype=F64)
    distance = shortest_path_lengths(edge_index, n)
    assert len(shells) == int(distance[torch.isfinite(distance)].max())
    assert torch.equal(shells[0], normalized_adjacency(edge_index, n, dtype=F64))
    for k, S in enumerate(shells, start=1):
        closed = (distance == k).double() + torch.eye(n, dtype=F64)
        scale = closed.sum(-1).rsqrt()
        assert torch.allclose(S, scale[:, None] * closed * scale, atol=1e-14)
        assert torch.equal(shell_operators(edge_index, n, k, "sparse", F64)[-1].to_dense(), S)


def test_self_loops_of_the_graph_do_not_make_distances():
    looped = torch.cat([path(4), torch.arange(4).expand(2, -1)], 1)
    for a, b in zip(shell_operators(looped, 4, 5), shell_operators(path(4), 4, 5), strict=True):
        assert torch.equal(a, b)


# ---------------------------------------------------------------- DRew

@pytest.mark.parametrize("nu", [None, 1, 2, 3])
@pytest.mark.parametrize("graph", GRAPHS)
def test_drew_is_its_recursion(graph, nu):
    edge_index, n = GRAPHS[graph]
    torch.manual_seed(0)
    shells, h = shell_operators(edge_index, n, 6, dtype=F64), torch.randn(n, 3, dtype=F64)
    network = DRewGCN(3, 6, nu).double()
    expected = recursion(network, h, shells, nu, torch.relu)
    for state, reference in zip(network.states(h, shells), expected, strict=True):
        assert torch.allclose(state, reference, rtol=1e-12, atol=1e-12)
    assert torch.allclose(network(h, shells), expected[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nu", [None, 1, 2])
def test_drew_equals_pyg_convolutions_on_the_shells(nu):
    torch.manual_seed(0)
    edge_index, n = GRAPHS["grid"]
    network, h = DRewGCN(3, 4, nu), torch.randn(n, 3)
    states, shells = [h], khop_shells(edge_index, n, 4)
    for t, layer in enumerate(network.layers):
        total = torch.zeros(n, 3)
        for k in range(1, t + 2):
            conv = GCNConv(3, 3, bias=False)
            conv.lin.weight.data = layer.weight[k - 1].detach().T
            total += conv(states[t - (0 if nu is None else max(0, k - nu))], shells[k - 1]).detach()
        states.append(states[t] + total.relu())
    assert torch.allclose(network(h, shell_operators(edge_index, n, 4)), states[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nu", [None, 1, 2])
@pytest.mark.parametrize("max_hops", [None, 2])
def test_drew_stacked_layer_by_layer_is_the_network(nu, max_hops):
    edge_index, n = GRAPHS["grid"]
    torch.manual_seed(0)
    shells, h = shell_operators(edge_index, n, 5, dtype=F64), torch.randn(n, 3, dtype=F64)
    network = DRewGCN(3, 5, nu, max_hops).double()
    walked = list(walk(network.layers, h, shells))
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(walked, network.states(h, shells), strict=True))
    run = trajectory(network.layers, h, shells, edge_index=edge_index)
    assert len(run) == 6 and np.isfinite(run.to_numpy()).all()


def test_without_delay_only_the_present_counts_and_delay_needs_more_than_nu_hops():
    edge_index, n = GRAPHS["grid"]
    shells, h = shell_operators(edge_index, n, 4, dtype=F64), torch.randn(n, 3, dtype=F64)
    assert DRewGCN(3, 4, None).layers[0].memory == 1 and DRewGCN(3, 4, 1).layers[0].memory == 4
    outs = []
    for nu in (None, float("inf"), 4, 3):
        torch.manual_seed(0)
        outs.append(DRewGCN(3, 4, nu).double()(h, shells))
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2]) and not torch.allclose(outs[0], outs[3])


def test_full_delay_makes_drews_schedule_out_of_a_zero_past():
    """With ν = 1 a layer of all hops equals layer t with t + 1 hops: what is missing is exactly what is still zero."""
    edge_index, n = GRAPHS["barbell"]
    torch.manual_seed(0)
    shells, h = shell_operators(edge_index, n, 5, dtype=F64), torch.randn(n, 2, dtype=F64)
    layer, scheduled = DelayGCN(2, 5, 1).double(), DRewGCN(2, 5, 1).double()
    with torch.no_grad():
        for step in scheduled.layers:
            step.weight.copy_(layer.weight[:step.hops])
    for a, b in zip(walk([layer] * 5, h, shells), scheduled.states(h, shells), strict=True):
        assert torch.allclose(a, b, atol=1e-13)


def test_one_hop_without_residual_is_gcn():
    S, h = normalized_adjacency(ring(7), 7, dtype=F64), torch.randn(7, 3, dtype=F64)
    layer, gcn = DelayGCN(3, 1, None, residual=0.0, activation="tanh").double(), GCN(3, 3, "tanh").double()
    with torch.no_grad():
        gcn.weight.copy_(layer.weight[0])
    assert torch.allclose(layer(h, [S]), gcn(h, S), atol=1e-15)


def test_information_travels_one_hop_further_in_each_layer_of_drew_than_in_the_last():
    n = 13  # node 12 is 12 hops from node 0; 1 + 2 + 3 + 4 = 10 < 12 <= 15
    shells, h = shell_operators(path(n), n, 12, dtype=F64), torch.rand(n, 1, dtype=F64)
    network = DRewGCN(1, 5, None, activation=None).double()
    for layer in network.layers:
        torch.nn.init.ones_(layer.weight)
    reach = []
    for depth in range(1, 6):
        J = layer_jacobian(lambda x, depth=depth: list(network.states(x, shells))[depth], h)
        reach.append(int(torch.nonzero(J[:, 0]).max()))
    assert reach == [1, 3, 6, 10, 12]


@pytest.mark.parametrize("nu", [None, 1])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_permuting_the_nodes_permutes_the_output(nu, activation):
    edge_index, n = GRAPHS["random"]
    shells, h = shell_operators(edge_index, n, 4, dtype=F64), torch.randn(n, 3, dtype=F64)
    network = DRewGCN(3, 4, nu, activation=activation).double()
    p = torch.randperm(n)
    assert torch.allclose(network(h[p], [S[p][:, p] for S in shells]), network(h, shells)[p], atol=1e-12)


def test_sparse_batched_and_gradcheck():
    edge_index, n = GRAPHS["grid"]
    network = DRewGCN(2, 3, 1, activation="tanh").double()
    h, dense = torch.randn(n, 2, dtype=F64), shell_operators(edge_index, n, 3, dtype=F64)
    out = network(h, dense)
    assert torch.allclose(network(h, shell_operators(edge_index, n, 3, "sparse", F64)), out, atol=1e-13)
    assert torch.allclose(network(torch.stack([h, -h]), [torch.stack([S, S]) for S in dense])[0], out, atol=1e-13)
    assert torch.autograd.gradcheck(lambda x: network(x, dense), h[:, :2].clone().requires_grad_(True))
    weights = tuple(p.detach().requires_grad_(True) for p in network.parameters())
    names = [name for name, _ in network.named_parameters()]
    assert torch.autograd.gradcheck(
        lambda *w: torch.func.functional_call(network, dict(zip(names, w, strict=True)), (h, dense)), weights)


def test_states_keep_only_what_the_delays_need():
    network = DRewGCN(2, 6, 1, max_hops=3).double()
    shells = shell_operators(path(7), 7, 6, dtype=F64)
    generator = network.states(torch.randn(7, 2, dtype=F64), shells)
    for _ in range(6):
        next(generator)
    assert len(generator.gi_frame.f_locals["history"]) == 3 == network.layers[0].memory


# ---------------------------------------------------------------- delay is memory: the companion matrix

def linear_layer(dim: int, hops: int, nu: int | None, residual: float, seed: int = 0) -> DelayGCN:
    torch.manual_seed(seed)
    return DelayGCN(dim, hops, nu, residual=residual, activation=None).double()


@pytest.mark.parametrize("nu, residual", [(1, 1.0), (2, 1.0), (1, 0.0), (None, 1.0)])
@pytest.mark.parametrize("graph", ["star", "barbell"])
def test_companion_form_gives_the_numbers_of_the_recursion(graph, nu, residual):
    edge_index, n = GRAPHS[graph]
    layer, shells = linear_layer(2, 3, nu, residual), shell_operators(edge_index, n, 3, dtype=F64)
    C, h, steps = delay_state_space(layer, shells), torch.randn(n, 2, dtype=F64), 7
    z = layer.lift(h).T.reshape(-1)  # vec stacks columns
    past = [h]
    for _ in range(steps):
        z = C @ z
        total = residual * past[-1]
        for k, S in enumerate(shells[:3], start=1):
            delay = 0 if nu is None else max(0, k - nu)
            if delay < len(past):
                total = total + S @ past[-1 - delay] @ layer.weight[k - 1]
        past.append(total.detach())
        assert torch.allclose(z[:2 * n].reshape(2, n).T, past[-1], rtol=1e-11, atol=1e-12)
    for j in range(layer.memory):  # the rest of the state is the past
        assert torch.allclose(z[2 * n * j:2 * n * (j + 1)].reshape(2, n).T, past[-1 - j], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("nu, residual", [(1, 1.0), (2, 0.5), (1, 0.0), (None, 1.0)])
@pytest.mark.parametrize("graph", ["star", "barbell", "random"])
def test_companion_matrix_is_the_jacobian_and_its_power_that_of_the_unrolled_network(graph, nu, residual):
    edge_index, n = GRAPHS[graph]
    layer, shells = linear_layer(2, 3, nu, residual), shell_operators(edge_index, n, 3, dtype=F64)
    C, state = delay_state_space(layer, shells), torch.randn(n, layer.in_dim, dtype=F64)
    J = layer_jacobian(layer, state, shells)
    assert torch.allclose(J, C, atol=1e-13)
    unrolled = product_jacobian([layer] * 5, state, shells)
    assert torch.allclose(unrolled, torch.linalg.matrix_power(C, 5), atol=1e-10)
    # Spectra of non-normal matrices are sensitive, their traces are not: tr J^p = Σ z^p fixes the spectrum.
    values = np.linalg.eigvals(C.numpy())
    for power in range(1, 6):
        expected = float(product_jacobian([layer] * power, state, shells).trace())
        assert (values ** power).sum() == pytest.approx(expected, rel=1e-8, abs=1e-8)
    def from_features(h):
        return list(walk_with_gradients(layer, h, shells, 5))[-1]
    block = torch.linalg.matrix_power(C, 5)[:2 * n, :2 * n]
    assert torch.allclose(layer_jacobian(from_features, state[:, :2]), block, atol=1e-10)


def walk_with_gradients(layer, h, shells, steps):
    state = layer.lift(h)
    for _ in range(steps):
        state = layer(state, shells)
        yield layer.readout(state)


def test_with_one_operator_for_all_hops_the_spectrum_is_a_union_of_small_companions():
    edge_index, n = GRAPHS["grid"]
    S, layer = normalized_adjacency(edge_index, n, dtype=F64), linear_layer(2, 3, 1, 1.0)
    values = torch.linalg.eigvals(delay_state_space(layer, [S] * 3))
    W, eye = layer.weight.detach().transpose(1, 2), torch.eye(2, dtype=F64)
    small = []
    for _, lambdas, _ in symmetric_eigen(S, vectors=False):
        for lam in lambdas:
            small.append(torch.linalg.eigvals(companion_matrix([eye + lam * W[0], lam * W[1], lam * W[2]])))
    small = torch.cat(small)
    assert len(small) == len(values) == n * 2 * 3
    distance = (values[:, None] - small[None, :]).abs()
    assert float(distance.amin(0).max()) < 1e-6 and float(distance.amin(1).max()) < 1e-6
    for power in range(1, 5):
        assert complex((values ** power).sum()) == pytest.approx(complex((small ** power).sum()), rel=1e-9)


def test_companion_of_scalars_has_the_roots_of_its_polynomial():
    coefficients = [0.5, -0.3, 0.2]
    C = companion_matrix([torch.tensor([[c]], dtype=F64) for c in coefficients])
    roots = np.roots([1, *(-c for c in coefficients)])
    assert np.sort_complex(np.linalg.eigvals(C.numpy())) == pytest.approx(np.sort_complex(roots), abs=1e-12)


def test_delay_multiplies_the_number_of_eigenvalues_by_the_memory():
    edge_index, n = GRAPHS["star"]
    shells = shell_operators(edge_index, n, 2, dtype=F64)
    assert len(delay_state_space(linear_layer(2, 2, None, 1.0), shells)) == 2 * n
    assert len(delay_state_space(linear_layer(2, 2, 1, 1.0), shells)) == 2 * 2 * n


# ---------------------------------------------------------------- refusals

@pytest.mark.parametrize("call, error, match", [
    (lambda: DelayGCN(2, 3, 1, memory=2), ValueError, "memory must be at least 3"),
    (lambda: DelayGCN(2, 0), ValueError, "hops"), (lambda: DelayGCN(2, 2, 0), ValueError, "nu"),
    (lambda: DRewGCN(2, 0), ValueError, "num_layers"), (lambda: DRewGCN(2, 2, max_hops=0), ValueError, "max_hops"),
    (lambda: DelayGCN(2, 1)(torch.ones(4, 2), torch.eye(4)), TypeError, "list of operators"),
    (lambda: DelayGCN(2, 1)(torch.ones(4, 2), [torch.eye(3)]), ValueError, r"shells\[0\]"),
    (lambda: DelayGCN(2, 1)(torch.ones(4, 2), [torch.eye(4).double()]), TypeError, "dtype"),
    (lambda: DelayGCN(2, 3)(torch.ones(4, 2), [torch.eye(4)] * 3), ValueError, "lift"),
    (lambda: DelayGCN(2, 1, residual=float("nan")), ValueError, "residual must be a finite number"),
    (lambda: kGCN(4, 4)(torch.ones(3, 5), [torch.eye(3)]), ValueError, "h must have 4 features"),
    (lambda: DRewGCN(4, 2)(torch.ones(3, 5), [torch.eye(3)]), ValueError, "h must have 4 features"),
    (lambda: kGCN(4, 4)(torch.ones(3, 4).double(), [torch.eye(3).double()]), TypeError, "h must have the dtype of the layer"),
    (lambda: batch_shell_operators(np.zeros((3, 3)), 2), TypeError, "distance must be a torch.Tensor"),
    (lambda: delay_state_space(DelayGCN(2, 1), [torch.eye(4)]), ValueError, "linear"),
    (lambda: delay_state_space(DelayGCN(2, 1, activation=None), []), ValueError, "shells must hold at least one operator"),
    (lambda: companion_matrix([]), ValueError, "blocks"),
    (lambda: companion_matrix([torch.eye(2), torch.eye(3)]), ValueError, "blocks"),
])
def test_misuse_is_refused_by_name(call, error, match):
    with pytest.raises(error, match=match):
        call()
