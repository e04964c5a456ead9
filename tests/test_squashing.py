"""Section 5 of the paper: sensitivities, Theorem 5.1, Proposition 9.A, and effective resistance."""
from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import GATConv, GCNConv

from gnnssm_lite import graphs, squashing
from gnnssm_lite.experiments import section5
from gnnssm_lite.jacobian import compose, layer_jacobian, product_jacobian
from gnnssm_lite.models import (
    GAT,
    GCN,
    GIN,
    GNNSSM,
    GatedGCN,
    GraphSAGE,
    Residual,
    shell_operators,
    state_matrix,
)
from gnnssm_lite.models.multihop import kGCN
from gnnssm_lite.smoothing import LIPSCHITZ
from gnnssm_lite.squashing import (
    MPNN,
    NORMS,
    block_norm,
    commute_time,
    effective_resistance,
    entrywise_bound,
    model_term,
    sensitivities,
    sensitivity,
    sensitivity_bound,
    sensitivity_by_distance,
    sensitivity_to_target,
    topology_term,
    walk_bound,
)

F64 = torch.float64
ROUNDING = 1 + 1e-12
generated = settings(max_examples=60, deadline=None, derandomize=True, database=None)
STATED = ("l1", "linf", "spectral", "fro")  # norms for which Theorem 5.1 holds as it is written


@st.composite
def any_graph(draw, max_nodes=9):
    """A graph with any set of edges: empty, disconnected, with isolated nodes."""
    n = draw(st.integers(1, max_nodes))
    node = st.integers(0, n - 1)
    pairs = draw(st.lists(st.tuples(node, node), max_size=2 * n))
    return graphs.undirected(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()), n


def normalized(edge_index, n, layout="dense"):
    return graphs.normalized_adjacency(edge_index, n, layout, F64)


def random_stack(seed, depth=3, widths=None, c=(0.5, 1.2), activation="tanh"):
    torch.manual_seed(seed)
    widths = widths or [3] * (depth + 1)
    layers = [MPNN(a, b, activation, *c).double() for a, b in zip(widths[:-1], widths[1:], strict=True)]
    for layer in layers:
        for weight in layer.parameters():
            torch.nn.init.normal_(weight)
    return layers


def equal_weights(depth, width, w, c=(0.5, 1.2)):
    """The equality case: linear, all weights ``w``."""
    layers = random_stack(0, depth, [width] * (depth + 1), c, None)
    for layer in layers:
        for weight in layer.parameters():
            torch.nn.init.constant_(weight, w)
    return layers


def features(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=F64)


def dense_blocks(layers, h, *graph):
    """All blocks from the dense product Jacobian: ``[v, u]`` of shape ``(d_out, d_in)``."""
    n, d_in = h.shape
    J = product_jacobian(layers, h, *graph)
    return J.reshape(-1, n, d_in, n).permute(1, 3, 0, 2)  # vec stacks columns: feature before node


# ---------------------------------------------------------------- sensitivities

BARBELL = graphs.barbell(4, 2)
STACKS = {
    "MPNN": lambda: random_stack(1, widths=[3, 5, 4, 2]),
    "GCN": lambda: [GCN(3, 4, "tanh").double(), GCN(4, 2, "elu", bias=True).double()],
    "GAT": lambda: [GAT(3, 4, "tanh").double(), GAT(4, 2, "tanh").double()],
    "GraphSAGE": lambda: [GraphSAGE(3, 4, "gelu").double(), GraphSAGE(4, 2, "tanh").double()],
    "GIN": lambda: [GIN(3, 3, "tanh").double()],
    "GatedGCN": lambda: [GatedGCN(3, 3, "tanh").double() for _ in range(2)],
    "GNN-SSM": lambda: [GNNSSM(GCN(3, 3, "tanh").double(), state_matrix(3, 0.9, dtype=F64), features(3, 3)) for _ in range(4)],
}


@pytest.mark.parametrize("layout", graphs.LAYOUTS)
@pytest.mark.parametrize("name", STACKS)
def test_sensitivities_are_the_blocks_of_the_dense_jacobian_and_of_finite_differences(name, layout):
    torch.manual_seed(0)
    layers, h = STACKS[name](), features(10, 3)
    S = graphs.operator(layers[0].operator, BARBELL, 10, layout, F64)
    blocks = dense_blocks(layers, h, S)
    norms = sensitivities(layers, h, S, norm="fro")
    for target in (0, 5, 9):
        for source in range(10):
            J = sensitivity(layers, h, S, source=source, target=target)
            assert (J - blocks[target, source]).abs().max() < 1e-10
            assert (J - finite_differences(layers, h, S, source, target)).abs().max() < 1e-6
            assert norms[target, source] == pytest.approx(float(J.norm()), abs=1e-12)


def finite_differences(layers, h, S, source, target, step=1e-5):
    columns = []
    for j in range(h.shape[1]):
        shift = torch.zeros_like(h)
        shift[source, j] = step
        with torch.no_grad():
            columns.append((compose(layers)(h + shift, S)[target] - compose(layers)(h - shift, S)[target]) / (2 * step))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("convolution", [GCNConv, GATConv])
def test_torch_geometric_convolutions_are_models_too(convolution):
    torch.manual_seed(0)
    layer, h = convolution(3, 2).double(), features(10, 3)
    blocks = layer_jacobian(layer, h, BARBELL).reshape(2, 10, 3, 10).permute(1, 3, 0, 2)
    for source in range(10):
        assert (sensitivity(layer, h, BARBELL, source=source, target=4) - blocks[4, source]).abs().max() < 1e-10


def test_shells_are_an_argument_like_any_other():
    layers, h = [kGCN(3, 3, "tanh", hop=k).double() for k in (1, 2, 3)], features(10, 3)
    shells = shell_operators(BARBELL, 10, 3, dtype=F64)
    J = sensitivity(layers, h, shells, source=0, target=9)
    assert (J - finite_differences(layers, h, shells, 0, 9)).abs().max() < 1e-6 and float(J.abs().max()) > 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_all_ways_to_ask_for_norms_agree_with_the_definition(norm):
    layers, h, S = random_stack(2, widths=[3, 4, 2]), features(10, 3), normalized(BARBELL, 10)
    blocks = dense_blocks(layers, h, S).numpy()
    order = {"l1": 1, "linf": np.inf, "spectral": 2, "fro": "fro"}
    by_hand = {"max": lambda J: np.abs(J).max(), "sum": lambda J: np.abs(J).sum()}
    expected = [by_hand[norm](J) if norm in by_hand else np.linalg.norm(J, order[norm]) for J in blocks[7]]
    found = sensitivity_to_target(layers, h, S, target=7, norm=norm)
    assert np.allclose(found, expected, atol=1e-12)
    assert torch.allclose(found, sensitivities(layers, h, S, norm=norm)[7], atol=1e-14)
    assert torch.allclose(found, block_norm(torch.tensor(blocks[7]), norm), atol=1e-12)


@pytest.mark.parametrize("s", [1e-30, 1e-23, 1e20, 1e30])
@pytest.mark.parametrize("norm", NORMS)
def test_norms_in_float32_reach_as_far_as_the_blocks(norm, s):
    h, S = features(10, 3).float(), normalized(BARBELL, 10).float()
    found, plain = (sensitivities(lambda h, S, c=c: c * (S @ h), h, S, norm=norm) for c in (s, 1.0))
    assert found.dtype == torch.float32 and plain.any()
    assert torch.allclose(found.double() / s, plain.double(), rtol=1e-5, atol=0)


def test_one_target_costs_as_many_products_as_it_has_features(monkeypatch):
    asked, grad = [], torch.autograd.grad

    def counted(outputs, inputs, cotangents, **options):
        asked.append(len(cotangents) if options.get("is_grads_batched") else 1)
        return grad(outputs, inputs, cotangents, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    sensitivity_to_target(random_stack(2, widths=[3, 4, 5]), features(10, 3), normalized(BARBELL, 10), target=1)
    assert sum(asked) == 5


def test_a_list_a_module_list_and_a_composition_are_the_same_model():
    layers, h, S = random_stack(3), features(10, 3), normalized(BARBELL, 10)
    J = sensitivity(layers, h, S, source=2, target=7)
    for model in (tuple(layers), torch.nn.ModuleList(layers), torch.nn.Sequential(*layers), compose(layers)):
        assert torch.equal(sensitivity(model, h, S, source=2, target=7), J)


def test_nothing_but_the_answer_is_left_behind():
    layers, S = random_stack(3), normalized(BARBELL, 10)
    h = features(10, 3).requires_grad_(True)
    with torch.no_grad():
        J = sensitivity(layers, h, S, source=2, target=4)
    assert not J.requires_grad and h.grad is None
    assert all(weight.grad is None for layer in layers for weight in layer.parameters())
    assert sensitivity([layer.float() for layer in layers], h.float(), S.float(), source=2, target=4).dtype == torch.float32


def test_a_model_that_ignores_its_input_has_no_sensitivity():
    h, S = features(4, 3), normalized(graphs.ring(4), 4)
    assert not sensitivities(lambda h, S: torch.ones(4, 2, dtype=F64), h, S).any()
    weight = torch.ones(4, 2, dtype=F64, requires_grad=True)
    assert not sensitivities(lambda h, S: 2 * weight, h, S).any()


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_nodes_farther_than_the_depth_have_sensitivity_exactly_zero(graph, depth):
    edge_index, n = graph
    layers, S = random_stack(4, depth), normalized(edge_index, n)
    far = graphs.shortest_path_lengths(edge_index, n) > depth
    found = sensitivities(layers, features(n, 3), S)
    assert not found[far].any() and not sensitivity_bound(layers, S).values[far].any()
    reached = sensitivities(equal_weights(depth, 3, 0.3), features(n, 3), S)
    assert (reached[~far] > 0).all()  # so that the zeros above say something


def test_components_do_not_feel_each_other():
    edge_index = torch.cat([graphs.ring(4), graphs.path(3) + 4], 1)
    found = sensitivities(random_stack(5, 6), features(8, 3), normalized(edge_index, 8))
    same = torch.block_diag(torch.ones(4, 4), torch.ones(3, 3), torch.ones(1, 1)).bool()
    assert not found[~same].any() and (found[same] > 0).all()


@generated
@given(any_graph(), st.integers(0, 10 ** 6))
def test_sensitivities_bounds_and_resistances_move_with_the_labels(graph, seed):
    edge_index, n = graph
    new = torch.randperm(n, generator=torch.Generator().manual_seed(seed))  # node u is called new[u]
    h, layers = features(n, 3, seed), random_stack(seed % 7, 2)
    moved_h = torch.empty_like(h)
    moved_h[new] = h
    moved_edges = new[edge_index]
    S, moved_S = normalized(edge_index, n), normalized(moved_edges, n)

    def same(before, after):
        return torch.allclose(after[new[:, None], new], before, rtol=1e-10, atol=1e-12)

    assert same(sensitivities(layers, h, S), sensitivities(layers, moved_h, moved_S))
    assert same(sensitivity_bound(layers, S).values, sensitivity_bound(layers, moved_S).values)
    assert same(walk_bound(layers, S).values, walk_bound(layers, moved_S).values)
    assert same(effective_resistance(edge_index, n), effective_resistance(moved_edges, n))


# ---------------------------------------------------------------- by distance

def test_by_distance_averages_over_the_pairs_at_each_distance(graph):
    edge_index, n = graph
    layers, h, S = random_stack(6), features(n, 3), normalized(edge_index, n)
    table = sensitivity_by_distance(layers, h, S, edge_index=edge_index, norm="spectral")
    found, distance = sensitivities(layers, h, S, norm="spectral"), graphs.shortest_path_lengths(edge_index, n)
    assert table["count"].sum() == n * n and table.distance.is_monotonic_increasing
    for row in table.itertuples():
        values = found[distance == row.distance]
        assert row.count == len(values) and row.mean == pytest.approx(float(values.mean()), abs=1e-14)
        assert row.std == pytest.approx(float(values.std(correction=0)), abs=1e-12)
        assert (row.min, row.max) == (float(values.min()), float(values.max()))


def test_a_sample_of_targets_is_drawn_with_the_seed_and_without_repetition():
    layers, h, S, edge_index = random_stack(6), features(10, 3), normalized(BARBELL, 10), BARBELL
    drawn = [sensitivity_by_distance(layers, h, S, edge_index=edge_index, targets=3, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0].equals(drawn[1]) and not drawn[0].equals(drawn[2])
    assert drawn[0]["count"].sum() == 30 and drawn[0]["count"][0] == 3
    every = sensitivity_by_distance(layers, h, S, edge_index=edge_index, targets=10)
    assert every.equals(sensitivity_by_distance(layers, h, S, edge_index=edge_index))
    one = sensitivity_by_distance(layers, h, S, edge_index=edge_index, targets=[0])
    assert one["mean"][0] == pytest.approx(float(sensitivity_to_target(layers, h, S, target=0)[0]))


# ---------------------------------------------------------------- Theorem 5.1

@pytest.fixture(scope="module")
def theorem_draws():
    return section5.theorem_5_1()


def test_theorem_5_1_holds_on_240_random_draws(theorem_draws):
    frame = theorem_draws
    assert frame.seed.nunique() >= 200 and frame.graph.nunique() == 8 and frame.activation.nunique() == 7
    assert frame.ratio.max() <= ROUNDING and (frame.sensitivity >= 0).all()
    beyond = frame[frame.distance > frame.depth]
    assert len(beyond) > 100 and (beyond.sensitivity == 0).all() and (beyond.bound == 0).all()
    product = frame.model_term * frame.topology_term
    assert np.allclose(frame.bound, product, rtol=1e-14, atol=0)


def test_theorem_5_1_is_attained_in_the_equality_draws(theorem_draws):
    reached = theorem_draws[theorem_draws.equality & (theorem_draws.distance <= theorem_draws.depth)]
    assert reached.seed.nunique() == 30 and (reached.distance >= 3).any()
    assert np.allclose(reached.ratio, 1, rtol=1e-10, atol=0)


def test_each_bound_stays_below_the_next(theorem_draws):
    frame = theorem_draws
    assert (frame.sensitivity <= frame.entrywise_bound * ROUNDING).all()
    assert (frame.entrywise_bound <= frame.walk_bound * ROUNDING).all()
    assert (frame.walk_bound <= frame.bound * ROUNDING).all()
    assert (frame.walk_bound < 0.5 * frame.bound).any() and (frame.entrywise_bound < 0.5 * frame.walk_bound).any()


@pytest.mark.parametrize("norm", ["linf", "spectral"])
def test_the_walk_bound_stays_below_the_theorem_in_every_induced_norm(norm):
    frame = section5.theorem_5_1(seeds=range(1000, 1060), norm=norm)
    assert frame.ratio.max() <= ROUNDING and (frame.sensitivity <= frame.walk_bound * ROUNDING).all()
    assert (frame.walk_bound <= frame.bound * ROUNDING).all() and (frame.walk_bound < 0.5 * frame.bound).any()


@pytest.mark.parametrize("norm", NORMS)
def test_theorem_5_1_holds_for_each_norm_with_its_power_of_the_width(norm):
    seeds = range(1000, 1040)
    for seed in seeds:
        draw = section5.random_mpnns(seed)
        S = normalized(draw["edge_index"], draw["n"])
        bound = sensitivity_bound(draw["layers"], S, norm).values[draw["target"]]
        found = sensitivity_to_target(draw["layers"], draw["h"], S, target=draw["target"], norm=norm)
        assert (found <= bound * ROUNDING).all(), seed
        if draw["equality"]:
            assert torch.allclose(found, bound, rtol=1e-10, atol=0), seed


@generated
@given(any_graph(), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["relu", "tanh", "elu", "sigmoid", "gelu", None]),
       st.floats(0, 2), st.floats(0, 2), st.integers(0, 10 ** 6))
def test_theorem_5_1_holds_on_any_graph(graph, depth, width, activation, c_r, c_a, seed):
    edge_index, n = graph
    layers, S = random_stack(seed, depth, [width] * (depth + 1), (c_r, c_a), activation), normalized(edge_index, n)
    h = features(n, width, seed)
    assert (sensitivities(layers, h, S) <= sensitivity_bound(layers, S).values * ROUNDING).all()
    entries = entrywise_bound(layers, S, target=0)
    for u in range(n):
        assert (sensitivity(layers, h, S, source=u, target=0).abs() <= entries[u] * ROUNDING).all()


@pytest.mark.parametrize("norm", NORMS)
def test_equal_weights_attain_the_bound_at_every_pair_in_every_norm(graph, norm):
    edge_index, n = graph
    for depth, width, w in ((1, 4, 0.7), (3, 1, 1.3), (4, 3, 0.2)):
        layers, S = equal_weights(depth, width, w), normalized(edge_index, n)
        bound = sensitivity_bound(layers, S, norm).values
        assert torch.allclose(sensitivities(layers, features(n, width), S, norm=norm), bound, rtol=1e-10, atol=0)


def test_a_sigmoid_at_zero_attains_its_lipschitz_constant():
    layer, S = equal_weights(1, 3, 0.5)[0], normalized(graphs.ring(5), 5)
    layer.activation = torch.sigmoid
    found = sensitivities([layer], torch.zeros(5, 3, dtype=F64), S)
    assert torch.allclose(found, sensitivity_bound([layer], S).values, rtol=1e-12)


@pytest.mark.parametrize("norm", STATED)
def test_one_factor_of_the_width_less_is_no_bound(norm):
    depth, width, w = 3, 4, 0.7
    layers, S = equal_weights(depth, width, w), normalized(BARBELL, 10)
    found = sensitivities(layers, features(10, width), S, norm=norm)
    planted = model_term(w, width, depth) / width * topology_term(S, depth, 0.5, 1.2)
    assert (found > 3.9 * planted)[planted > 0].all()


def test_the_theorem_as_stated_fails_for_the_sum_of_entries_by_a_factor_of_the_width():
    layers, S = equal_weights(3, 4, 0.7), normalized(BARBELL, 10)
    stated = sensitivity_bound(layers, S).values
    assert torch.allclose(sensitivities(layers, features(10, 4), S, norm="sum"), 4 * stated, rtol=1e-12)


def test_a_wrong_number_of_layers_in_the_topology_term_is_no_bound():
    layers, S = equal_weights(3, 2, 0.7), normalized(graphs.path(6), 6)
    found, planted = sensitivities(layers, features(6, 2), S), model_term(0.7, 2, 3) * topology_term(S, 2, 0.5, 1.2)
    assert found[3, 0] > 0 and planted[3, 0] == 0


def test_the_largest_entry_instead_of_the_largest_absolute_entry_is_no_bound():
    layers, S = equal_weights(2, 2, -0.7), normalized(graphs.ring(5), 5)
    for layer in layers:
        layer.root.data[0, 0] = layer.neighbours.data[0, 0] = 0.1  # the largest entry, far from the largest in size
    found = sensitivities(layers, features(5, 2), S)
    assert (found > model_term(0.1, 2, 2) * topology_term(S, 2, 0.5, 1.2)).all()
    assert (found <= sensitivity_bound(layers, S).values).all()


def test_a_lipschitz_constant_of_one_is_no_bound_for_gelu():
    layer = GCN(1, 1, "gelu").double()
    layer.weight.data.fill_(1.0)
    h, S = torch.full((1, 1), math.sqrt(2), dtype=F64), torch.ones(1, 1, dtype=F64)
    found = float(sensitivities([layer], h, S))
    assert found > 1.1 * float(sensitivity_bound([layer], S, lipschitz=1.0).values)
    assert found == pytest.approx(float(sensitivity_bound([layer], S).values), rel=1e-12)
    assert LIPSCHITZ[layer.activation] == pytest.approx(found)


def test_an_operator_with_negative_entries_enters_by_its_absolute_values():
    S = graphs.laplacian(graphs.path(4), 4, dtype=F64)
    layers = equal_weights(3, 2, 0.5, (0.0, 1.0))
    found = sensitivities(layers, features(4, 2), S)
    assert (found <= sensitivity_bound(layers, S).values * ROUNDING).all()
    plain = model_term(0.5, 2, 3) * torch.linalg.matrix_power(S, 3)
    assert (found > plain).any()


def test_an_operator_that_is_not_symmetric_keeps_target_and_source_apart():
    S, layers = graphs.mean_adjacency(BARBELL, 10, dtype=F64), equal_weights(3, 2, 0.7)
    assert not torch.allclose(S, S.T)
    found = sensitivities(layers, features(10, 2), S)
    assert torch.allclose(found, sensitivity_bound(layers, S).values, rtol=1e-10, atol=0)
    assert torch.allclose(found, walk_bound(layers, S, "l1").values, rtol=1e-10, atol=0)
    for v in (0, 5):
        assert torch.allclose(found[v], block_norm(entrywise_bound(layers, S, v)), rtol=1e-10, atol=0)


def test_the_width_is_the_largest_of_all_and_the_slope_the_steepest_of_all():
    S = normalized(graphs.ring(5), 5)
    layers = random_stack(0, widths=[9, 2, 2], activation=None)
    for layer in layers:
        for weight in layer.parameters():
            torch.nn.init.constant_(weight, 0.7)
    found = sensitivities(layers, features(5, 9), S, norm="linf")
    assert (found <= sensitivity_bound(layers, S, "linf").values).all()
    assert (found > model_term(0.7, 2, 2) * topology_term(S, 2, 0.5, 1.2)).all()
    mixed = [GCN(2, 2, "sigmoid"), GCN(2, 2, "gelu"), GCN(2, 2, "tanh")]
    assert squashing.theorem_constants(mixed).lipschitz == LIPSCHITZ[mixed[1].activation] > 1


def test_the_terms_are_those_of_the_formula():
    S = normalized(graphs.path(3), 3)
    mixed = 0.5 * torch.eye(3, dtype=F64) + 2 * S
    assert torch.allclose(topology_term(S, 3, 0.5, 2), mixed @ mixed @ mixed, rtol=1e-14)
    assert torch.equal(topology_term(S, 0), torch.eye(3, dtype=F64)) and torch.equal(topology_term(S, 1), S)
    assert torch.equal(topology_term(normalized(graphs.path(3), 3, "sparse"), 4), topology_term(S, 4))
    assert model_term(0.5, 4, 3, lipschitz=0.25) == (0.25 * 0.5 * 4) ** 3 and model_term(0.5, 4, 0) == 1
    bound = sensitivity_bound(random_stack(1, widths=[2, 5, 3]), S)
    assert torch.equal(bound.values, bound.model_term * bound.topology_term)


def test_a_bound_beyond_float64_is_infinite_and_still_zero_out_of_reach():
    layers, S = equal_weights(3, 2, 1e200), normalized(graphs.path(6), 6)
    values = sensitivity_bound(layers, S).values
    assert torch.isinf(values[0, 3]) and values[0, 4] == 0


def test_the_theorem_covers_gcn_and_graphsage():
    for make, c in ((GCN, (0.0, 1.0)), (GraphSAGE, (1.0, 1.0))):
        torch.manual_seed(0)
        layers = [make(3, 3, "relu").double() for _ in range(3)]
        S = graphs.operator(make.operator, BARBELL, 10, dtype=F64)
        constants = squashing.theorem_constants(layers)
        assert (constants.c_r, constants.c_a, constants.width, constants.depth, constants.lipschitz) == (*c, 3, 3, 1.0)
        assert constants.w == max(float(p.detach().abs().max()) for layer in layers for p in layer.parameters())
        found = sensitivities(layers, features(10, 3), S)
        assert (found > 0).any() and (found <= sensitivity_bound(layers, S).values * ROUNDING).all()


# ---------------------------------------------------------------- sharper bounds, GNN-SSM

@pytest.fixture(scope="module")
def state_space_draws():
    return section5.proposition_9_a()


def test_proposition_9_a_holds_on_240_random_draws(state_space_draws):
    frame = state_space_draws
    assert frame.seed.nunique() >= 200 and frame.hops.nunique() == 2 and frame.kind.nunique() == 5
    assert frame.ratio.max() <= ROUNDING and (frame.sensitivity <= frame.entrywise_bound * ROUNDING).all()
    reached = frame[frame.equality & (frame.bound > 0)]
    assert reached.seed.nunique() == 30 and np.allclose(reached.ratio, 1, rtol=1e-10, atol=0)


@pytest.mark.parametrize("norm", squashing.INDUCED)
def test_proposition_9_a_holds_in_each_induced_norm(norm):
    frame = section5.proposition_9_a(seeds=range(1000, 1060), norm=norm)
    assert frame.ratio.max() <= ROUNDING
    if norm != "spectral":  # |J| may have a larger spectral norm than ‖W‖₂ says
        assert (frame.entrywise_bound <= frame.bound * ROUNDING).all()


@generated
@given(any_graph(), st.integers(1, 5), st.floats(0, 1.5), st.sampled_from(["orthogonal", "gaussian", "spread"]),
       st.integers(0, 10 ** 6))
def test_proposition_9_a_holds_on_any_graph(graph, depth, eig, kind, seed):
    edge_index, n = graph
    torch.manual_seed(seed)
    Lambda, B = state_matrix(3, eig, kind, dtype=F64), features(4, 3, seed)
    layers = [GNNSSM(GCN(3, 4, "tanh").double(), Lambda, B) for _ in range(depth)]
    S = normalized(edge_index, n)
    found = sensitivities(layers, features(n, 3, seed), S, norm="spectral")
    assert (found <= walk_bound(layers, S).values * ROUNDING).all()


def test_proposition_9_a_is_the_binomial_sum_over_the_layers_in_which_a_message_moves():
    S, lam, b, K = normalized(graphs.path(7), 7), 0.9, 0.6 * 2, 6
    layers = [GNNSSM(layer, lam * torch.eye(2, dtype=F64)) for layer in equal_weights(K, 2, 0.6, (0.0, 1.0))]
    expected = sum(math.comb(K, j) * lam ** (K - j) * b ** j * torch.linalg.matrix_power(S, j) for j in range(K + 1))
    bound = walk_bound(layers, S)
    assert torch.allclose(bound.values, expected, rtol=1e-12)
    assert bound.model_term == pytest.approx((lam + b) ** K)
    assert torch.allclose(sensitivities(layers, features(7, 2), S, norm="spectral"), expected, rtol=1e-10)
    # one way only to the far end of a path: all K layers must move, and none is left to remember
    assert bound.values[6, 0] == pytest.approx(b ** K * float(torch.linalg.matrix_power(S, K)[6, 0]), rel=1e-12)


def test_without_memory_proposition_9_a_is_the_bound_of_a_gcn():
    torch.manual_seed(0)
    couplings, S = [GCN(3, 3, "tanh").double() for _ in range(4)], normalized(BARBELL, 10)
    plain, memoryless = walk_bound(couplings, S), walk_bound([GNNSSM(c, torch.zeros(3, 3, dtype=F64)) for c in couplings], S)
    assert torch.allclose(plain.topology_term, topology_term(S, 4), rtol=1e-12)
    assert plain.model_term == pytest.approx(math.prod(float(torch.linalg.matrix_norm(c.weight.detach(), 2)) for c in couplings))
    assert torch.allclose(plain.values, memoryless.values, rtol=1e-12)


def test_without_coupling_only_memory_is_left():
    Lambda, S = state_matrix(3, 0.8, dtype=F64), normalized(BARBELL, 10)
    layers = [GNNSSM(None, Lambda) for _ in range(3)]
    eye = torch.eye(10, dtype=F64)
    assert torch.allclose(sensitivities(layers, features(10, 3), S, norm="spectral"), 0.8 ** 3 * eye, atol=1e-14)
    assert torch.allclose(walk_bound(layers, S).values, 0.8 ** 3 * eye, atol=1e-14)


def test_the_spectral_radius_of_a_non_normal_state_matrix_is_no_bound():
    Lambda = torch.tensor([[0.5, 10.0], [0.0, 0.5]], dtype=F64)  # eigenvalues 0.5, norm above 10
    layers = [GNNSSM(GCN(2, 2, None).double(), Lambda) for _ in range(2)]
    for layer in layers:
        layer.coupling.weight.data = 0.1 * torch.eye(2, dtype=F64)
    S = normalized(graphs.ring(5), 5)
    found = sensitivities(layers, features(5, 2), S, norm="spectral")
    planted = torch.linalg.matrix_power(0.5 * torch.eye(5, dtype=F64) + 0.1 * S, 2)
    assert (found > 2 * planted)[S > 0].all()  # at distance 2 no step is left for Λ
    assert (found <= walk_bound(layers, S).values * ROUNDING).all()


def test_an_orthogonal_state_matrix_needs_the_spectral_norm():
    Q, S = state_matrix(8, 1.0, generator=torch.Generator().manual_seed(0), dtype=F64), normalized(graphs.ring(5), 5)
    layers = [GNNSSM(None, Q) for _ in range(6)]
    assert walk_bound(layers, S, "spectral").model_term == pytest.approx(1)
    assert walk_bound(layers, S, "l1").model_term > 10
    assert sensitivity_to_target(layers, features(5, 8), S, target=0, norm="l1")[0] > 1.1  # so λ = 1 would be no bound there


def test_shells_bring_far_nodes_into_the_topology_term():
    edge_index, n, K = graphs.path(9), 9, 8
    shells = shell_operators(edge_index, n, K, dtype=F64)
    near = [GNNSSM(GCN(2, 2).double(), state_matrix(2, dtype=F64)) for _ in range(3)]
    far = [GNNSSM(kGCN(2, 2, hop=k + 1).double(), state_matrix(2, dtype=F64)) for k in range(3)]
    assert walk_bound(near, normalized(edge_index, n)).topology_term[6, 0] == 0
    assert walk_bound(far, shells).topology_term[6, 0] > 0  # 1 + 2 + 3 hops
    assert walk_bound(far, shells).topology_term[7, 0] == 0


@pytest.mark.parametrize(("shell", "seen"), [("normalized", 1.0), ("adjacency", 0.0)])
def test_beyond_the_last_shell_a_layer_sees_the_node_itself_or_with_plain_sums_nothing(shell, seen):
    shells, h = shell_operators(graphs.complete(4), 4, 3, dtype=F64, kind=shell), features(4, 2)
    layers = [kGCN(2, 2, None, hop=k, shell=shell).double() for k in (1, 2, 3)]
    assert len(shells) == 1
    found = sensitivities(layers, h, shells, norm="spectral")
    assert (found <= walk_bound(layers, shells).values * ROUNDING).all() and bool(found.any()) == bool(seen)
    assert torch.equal(walk_bound(layers, shells).topology_term, seen * shells[0])


@pytest.mark.parametrize("shell", ["adjacency", "mean"])
def test_bounds_hold_for_the_plain_sums_of_eq_21(shell):
    shells, h = shell_operators(BARBELL, 10, 3, dtype=F64, kind=shell), features(10, 2)
    layers = [GNNSSM(kGCN(2, 2, "tanh", hop=k, shell=shell).double(), state_matrix(2, dtype=F64)) for k in (1, 2, 3)]
    found = sensitivities(layers, h, shells, norm="spectral")
    assert (found <= walk_bound(layers, shells, "spectral").values * ROUNDING).all() and found[0, 9] > 0


def test_a_residual_connection_is_a_state_matrix_of_one():
    layers, S = random_stack(1), normalized(BARBELL, 10)
    residual, ssm = [Residual(layer) for layer in layers], [GNNSSM(layer, torch.eye(3, dtype=F64)) for layer in layers]
    assert torch.equal(walk_bound(residual, S).values, walk_bound(ssm, S).values)
    assert torch.equal(entrywise_bound(residual, S, 3), entrywise_bound(ssm, S, 3))


def test_the_entrywise_bound_is_attained_by_linear_layers_with_non_negative_weights(graph):
    edge_index, n = graph
    layers, S = random_stack(5, widths=[2, 4, 3, 3], activation=None), normalized(edge_index, n)
    for layer in layers:
        for weight in layer.parameters():
            weight.data.abs_()
    for stack in (layers, [GNNSSM(layer, torch.rand(3, 3, dtype=F64), torch.rand(3, 3, dtype=F64)) for layer in layers[2:]]):
        d_in = 2 if stack is layers else 3
        J = torch.stack([sensitivity(stack, features(n, d_in), S, source=u, target=n - 1) for u in range(n)])
        assert torch.allclose(J, entrywise_bound(stack, S, n - 1), rtol=1e-10, atol=1e-14)


# ---------------------------------------------------------------- the layer of the theorem

def test_mpnn_is_its_formula_and_contains_gcn_and_graphsage():
    layer, h, S = random_stack(1)[0], features(10, 3), normalized(BARBELL, 10)
    assert torch.allclose(layer(h, S), torch.tanh(0.5 * h @ layer.root + 1.2 * S @ h @ layer.neighbours), atol=1e-14)
    assert layer(torch.stack([h, h]), S).shape == (2, 10, 3)
    gcn, bare = GCN(3, 3, "tanh").double(), MPNN(3, 3, "tanh", 0.0, 1.0).double()
    bare.neighbours.data = gcn.weight.data
    assert torch.allclose(bare(h, S), gcn(h, S), atol=1e-14)
    sage, both = GraphSAGE(3, 3, "tanh").double(), MPNN(3, 3, "tanh").double()
    both.root.data, both.neighbours.data = sage.root.weight.data.T, sage.neighbours.weight.data.T
    mean = graphs.mean_adjacency(BARBELL, 10, dtype=F64)
    assert torch.allclose(both(h, mean), sage(h, mean), atol=1e-14)


def test_the_kronecker_terms_of_mpnn_make_its_jacobian():
    layer, h, S = random_stack(1, activation=None)[0], features(10, 3), normalized(BARBELL, 10)
    terms, eye = layer.kronecker_terms(), torch.eye(10, dtype=F64)
    expected = torch.kron(terms[0].T.contiguous(), eye) + torch.kron(terms[1].T.contiguous(), S)
    assert torch.allclose(layer_jacobian(layer, h, S), expected, atol=1e-14)


# ---------------------------------------------------------------- effective resistance and commute time

def networkx_graph(edge_index, n):
    graph = nx.empty_graph(n)
    graph.add_edges_from(edge_index.t().tolist())
    return graph


@generated
@given(any_graph(12))
def test_effective_resistance_is_that_of_networkx_in_each_component(graph):
    edge_index, n = graph
    R, whole = effective_resistance(edge_index, n), networkx_graph(edge_index, n)
    seen = torch.zeros(n, n, dtype=torch.bool)
    for nodes in nx.connected_components(whole):
        expected = nx.resistance_distance(whole.subgraph(nodes)) if len(nodes) > 1 else {next(iter(nodes)): {}}
        for u in nodes:
            for v in nodes:
                seen[u, v] = True
                assert float(R[u, v]) == pytest.approx(expected[u].get(v, 0.0), abs=1e-10)
    assert torch.isinf(R[~seen]).all()


@generated
@given(any_graph(12))
def test_effective_resistance_obeys_its_laws(graph):
    edge_index, n = graph
    R, hops = effective_resistance(edge_index, n), graphs.shortest_path_lengths(edge_index, n)
    assert torch.equal(R, R.T) and not R.diagonal().any()
    assert torch.equal(torch.isinf(R), torch.isinf(hops)) and (R <= hops + 1e-10).all()
    forest = R[edge_index[0], edge_index[1]].sum() / 2
    assert float(forest) == pytest.approx(n - len(graphs.connected_components(edge_index, n)), abs=1e-9)  # Foster
    for w in range(n):
        assert (R <= R[:, w, None] + R[w] + 1e-10).all()  # a metric
    if n > 1:  # Rayleigh: another edge lowers every resistance, or leaves it
        more = graphs.undirected(torch.cat([edge_index, torch.tensor([[0], [n - 1]])], 1))
        assert (effective_resistance(more, n) <= R + 1e-10).all()


def test_effective_resistance_in_closed_form():
    assert torch.allclose(effective_resistance(graphs.binary_tree(3), 15),
                          graphs.shortest_path_lengths(graphs.binary_tree(3), 15), atol=1e-12)  # one path only
    k = torch.arange(9, dtype=F64)
    assert torch.allclose(effective_resistance(graphs.ring(9), 9)[0], k * (9 - k) / 9, atol=1e-12)
    assert torch.allclose(effective_resistance(graphs.complete(6), 6), (1 - torch.eye(6, dtype=F64)) / 3, atol=1e-12)


def hitting_times(edge_index, n):
    """Expected steps to ``v`` from every node, from ``(I - P) t = 1`` with row and column ``v`` removed."""
    P = graphs.mean_adjacency(edge_index, n, dtype=F64)
    times = torch.zeros(n, n, dtype=F64)
    for v in range(n):
        rest = torch.tensor([u for u in range(n) if u != v])
        system = torch.eye(n - 1, dtype=F64) - P[rest[:, None], rest]
        times[rest, v] = torch.linalg.solve(system, torch.ones(n - 1, dtype=F64))
    return times


@pytest.mark.parametrize("case", ["path", "ring", "barbell", "binary_tree", "grid"])
def test_commute_time_is_there_and_back_in_solved_hitting_times(case):
    edge_index, n = {"path": (graphs.path(9), 9), "ring": (graphs.ring(8), 8), "barbell": (BARBELL, 10),
                     "binary_tree": (graphs.binary_tree(3), 15), "grid": (graphs.grid(3, 4), 12)}[case]
    there = hitting_times(edge_index, n)
    assert torch.allclose(commute_time(edge_index, n), there + there.T, rtol=1e-9)


def test_commute_time_is_that_of_simulated_walks():
    edge_index, n, walks = graphs.barbell(3, 1), 7, 20_000
    neighbours = [edge_index[1, edge_index[0] == u].numpy() for u in range(n)]
    degree = np.array([len(x) for x in neighbours])
    table = np.array([np.resize(x, degree.max()) for x in neighbours])
    rng = np.random.default_rng(0)

    def steps(start, end):
        at, time, taken = np.full(walks, start), 0, np.zeros(walks)
        while (at != end).any():
            moving = at != end
            at = np.where(moving, table[at, (rng.random(walks) * degree[at]).astype(int)], at)
            time += 1
            taken[moving] = time
        return taken

    there_and_back = steps(0, 6) + steps(6, 0)
    error = there_and_back.std() / math.sqrt(walks)
    assert abs(there_and_back.mean() - float(commute_time(edge_index, n)[0, 6])) < 4 * error


def test_a_walk_counts_the_edges_of_its_own_component_only():
    both = torch.cat([graphs.ring(4), graphs.complete(5) + 4], 1)
    C = commute_time(both, 10)
    assert torch.allclose(C[:4, :4], commute_time(graphs.ring(4), 4), atol=1e-12)
    assert torch.allclose(C[4:9, 4:9], commute_time(graphs.complete(5), 5), atol=1e-12)
    assert torch.isinf(C[0, 5]) and torch.isinf(C[9, 0]) and C[9, 9] == 0


def test_self_loops_do_not_count():
    looped = torch.cat([graphs.path(3), torch.tensor([[1], [1]])], 1)
    assert torch.equal(effective_resistance(looped, 3), effective_resistance(graphs.path(3), 3))
    assert torch.equal(commute_time(looped, 3), commute_time(graphs.path(3), 3))


# ---------------------------------------------------------------- sensitivity over distance

def test_memory_and_connectivity_reach_far_together_and_neither_does_alone():
    frame = section5.sensitivity_distance(seeds=(0, 1))
    assert not frame.isna().any().any() and (frame.sensitivity <= frame.bound * ROUNDING).all()
    assert set(frame.graph) == set(section5.bottleneck_graphs()) and set(frame.model) == set(section5.STACKS)
    far = frame[frame.distance == frame.groupby("graph").distance.transform("max")]
    at = far.pivot_table(index="graph", columns="model", values="sensitivity")
    both = at["kGCN-SSM, eig(Λ) = 1"]
    assert (both > 4 * at.drop(columns=both.name).max(axis=1)).all()


def test_topology_term_of_the_gcn_is_the_power_of_the_operator():
    frame = section5.sensitivity_distance(seeds=(0,), models=("GCN",), depth=5)
    row = frame[(frame.graph == "path") & (frame.distance == 4)].iloc[0]
    power = torch.linalg.matrix_power(normalized(graphs.path(16), 16), 5)
    assert row.topology_term == pytest.approx(float(power.diagonal(4).mean()), rel=1e-12)
    assert row["count"] == 24 and row.bound == pytest.approx(row.model_term * row.topology_term)


# ---------------------------------------------------------------- bad input

H, RING_S, RING = torch.ones(4, 3), graphs.normalized_adjacency(graphs.ring(4), 4), graphs.ring(4)
LAYER = GCN(3, 3)
BAD = {
    "source_large": (lambda: sensitivity(LAYER, H, RING_S, source=4, target=0), ValueError, ["source", "0 to 3", "it was 4"]),
    "source_negative": (lambda: sensitivity(LAYER, H, RING_S, source=-1, target=0), ValueError, ["source", "it was -1"]),
    "target_large": (lambda: sensitivity(LAYER, H, RING_S, source=0, target=9), ValueError, ["target", "0 to 3", "it was 9"]),
    "target_float": (lambda: sensitivity(LAYER, H, RING_S, source=0, target=1.0), TypeError, ["target", "integer", "1.0"]),
    "targets_large": (lambda: sensitivities(LAYER, H, RING_S, targets=[4]), ValueError, ["targets", "0 to 3", "it was 4"]),
    "targets_number": (lambda: sensitivities(LAYER, H, RING_S, targets=3), TypeError, ["targets", "list of nodes", "[3]"]),
    "targets_scalar": (lambda: sensitivities(LAYER, H, RING_S, targets=torch.tensor(3)), TypeError, ["targets", "list of nodes"]),
    "batch": (lambda: sensitivity(LAYER, H.expand(2, 4, 3), RING_S, source=0, target=0), ValueError, ["h", "batch", "(2, 4, 3)"]),
    "vector": (lambda: sensitivity(LAYER, torch.ones(4), RING_S, source=0, target=0), ValueError, ["h", "(4,)"]),
    "integers": (lambda: sensitivity(LAYER, H.long(), RING_S, source=0, target=0), TypeError, ["h", "floating-point", "int64"]),
    "list": (lambda: sensitivity(LAYER, [[1.0]], RING_S, source=0, target=0), TypeError, ["h", "torch.Tensor", "list"]),
    "nan": (lambda: sensitivity(LAYER, H * float("nan"), RING_S, source=0, target=0), ValueError, ["h", "finite", "12 of its 12"]),
    "width": (lambda: sensitivity(LAYER, torch.ones(4, 5), RING_S, source=0, target=0), ValueError, ["h", "3 features", "(4, 5)"]),
    "operator": (lambda: sensitivity(LAYER, H, torch.eye(5), source=0, target=0), ValueError, ["S", "(..., 4, 4)", "(5, 5)"]),
    "model": (lambda: sensitivity("GCN", H, RING_S, source=0, target=0), TypeError, ["model", "callable", "str"]),
    "no_layers": (lambda: sensitivity([], H, RING_S, source=0, target=0), ValueError, ["layers", "at least one", "empty"]),
    "output": (lambda: sensitivity(lambda h, S: h.sum(0, True), H, RING_S, source=0, target=0), ValueError, ["4 rows", "(1, 3)"]),
    "norm": (lambda: sensitivities(LAYER, H, RING_S, norm="l2"), ValueError, ["norm", "'l1'", "'l2'"]),
    "sample": (lambda: sensitivity_by_distance(LAYER, H, RING_S, edge_index=RING, targets=5), ValueError, ["targets", "at most 4", "5"]),
    "sample_zero": (lambda: sensitivity_by_distance(LAYER, H, RING_S, edge_index=RING, targets=0), ValueError, ["targets", "at least 1"]),
    "other_graph": (lambda: sensitivity_by_distance(LAYER, H, RING_S, edge_index=graphs.ring(5)), ValueError, ["edge_index", "0 to 3"]),
    "depth": (lambda: topology_term(RING_S, -1), ValueError, ["depth", "at least 0", "it was -1"]),
    "depth_float": (lambda: topology_term(RING_S, 2.0), TypeError, ["depth", "integer", "2.0"]),
    "not_square": (lambda: topology_term(torch.ones(2, 3), 1), ValueError, ["S", "square", "(2, 3)"]),
    "S_nan": (lambda: topology_term(RING_S * float("nan"), 1), ValueError, ["S", "finite"]),
    "S_integers": (lambda: topology_term(torch.eye(3).long(), 1), TypeError, ["S", "floating-point", "int64"]),
    "c_r": (lambda: topology_term(RING_S, 1, c_r=-1.0), ValueError, ["c_r", "at least 0", "-1.0"]),
    "c_a": (lambda: MPNN(2, 2, c_a=float("inf")), ValueError, ["c_a", "finite", "inf"]),
    "width_term": (lambda: model_term(1.0, 0, 1), ValueError, ["width", "at least 1", "it was 0"]),
    "w": (lambda: model_term(-1.0, 1, 1), ValueError, ["w must", "at least 0", "-1.0"]),
    "depth_term": (lambda: model_term(1.0, 1, -2), ValueError, ["depth", "at least 0", "-2"]),
    "bound_layer": (lambda: sensitivity_bound([GAT(3, 3)], RING_S), TypeError, ["layers", "MPNN", "GAT"]),
    "bound_one_layer": (lambda: sensitivity_bound(LAYER, RING_S), TypeError, ["layers", "list", "GCN"]),
    "bound_empty": (lambda: sensitivity_bound([], RING_S), ValueError, ["layers", "at least one"]),
    "bound_norm": (lambda: sensitivity_bound([LAYER], RING_S, "l2"), ValueError, ["norm", "'l2'"]),
    "bound_mixed": (lambda: sensitivity_bound([LAYER, MPNN(3, 3)], RING_S), ValueError, ["c_r", "(0.0, 1.0)", "(1.0, 1.0)"]),
    "bound_slope": (lambda: sensitivity_bound([GCN(3, 3, torch.exp)], RING_S), ValueError, ["lipschitz", "exp"]),
    "bound_lipschitz": (lambda: sensitivity_bound([LAYER], RING_S, lipschitz=-1), ValueError, ["lipschitz", "at least 0"]),
    "bound_widths": (lambda: sensitivity_bound([LAYER, GCN(2, 3)], RING_S), ValueError, ["layers", "layer 1", "width 3", "takes 2"]),
    "walk_layer": (lambda: walk_bound([GIN(3, 3)], RING_S), TypeError, ["layers", "GIN"]),
    "walk_norm": (lambda: walk_bound([LAYER], RING_S, "fro"), ValueError, ["norm", "'spectral'", "'fro'"]),
    "walk_widths": (lambda: walk_bound([LAYER, GCN(2, 3)], RING_S), ValueError, ["layers", "layer 1", "width 3", "takes 2"]),
    "walk_shells": (lambda: walk_bound([kGCN(3, 3)], RING_S), TypeError, ["S", "list", "Tensor"]),
    "walk_input": (lambda: walk_bound([kGCN(3, 3, source="input")], [RING_S]), ValueError, ["source", "'state'", "'input'"]),
    "entry_target": (lambda: entrywise_bound([LAYER], RING_S, 4), ValueError, ["target", "0 to 3", "it was 4"]),
    "resistance_one_way": (lambda: effective_resistance(torch.tensor([[0], [1]]), 2), ValueError, ["edge_index", "no reverse"]),
    "commute_nodes": (lambda: commute_time(RING, 3), ValueError, ["edge_index", "0 to 2"]),
    "blocks": (lambda: block_norm(torch.ones(3)), ValueError, ["blocks", "(3,)"]),
    "models": (lambda: section5.sensitivity_distance(models=("GCNN",)), ValueError, ["models", "unknown: GCNN"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_the_argument_named(case):
    call, error, words = BAD[case]
    with pytest.raises(error) as caught:
        call()
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


# ---------------------------------------------------------------- as readers call it

class Skips(torch.nn.ModuleList):
    def forward(self, h, S):
        for layer in self:
            h = h + layer(h, S)
        return h


def test_a_container_with_a_forward_of_its_own_is_a_model_and_not_a_list_of_layers():
    h, S = features(10, 3), graphs.normalized_adjacency(graphs.ring(10), 10, dtype=F64)
    net = Skips([GCN(3, 3, "tanh").double() for _ in range(2)])
    J = layer_jacobian(lambda h, S: net(h, S), h, S).reshape(3, 10, 3, 10)
    torch.testing.assert_close(squashing.sensitivity(net, h, S, source=1, target=2), J[:, 2, :, 1], rtol=0, atol=1e-15)


@pytest.mark.parametrize("entries", [1, 70, 10 ** 9])
def test_sensitivities_are_the_same_in_blocks_of_any_size(entries, monkeypatch):
    h, S = features(10, 3), graphs.normalized_adjacency(graphs.ring(10), 10, dtype=F64)
    layers = [GCN(3, 3, "tanh").double() for _ in range(2)]
    J = product_jacobian(layers, h, S).reshape(3, 10, 3, 10)
    monkeypatch.setattr(squashing, "BATCHED_ENTRIES", entries)
    torch.testing.assert_close(squashing.sensitivity(layers, h, S, source=1, target=2), J[:, 2, :, 1], rtol=0, atol=1e-15)


def test_nodes_may_come_as_integers_of_torch_and_numpy():
    h, S = features(10, 3), graphs.normalized_adjacency(graphs.ring(10), 10, dtype=F64)
    layer = GCN(3, 3, "tanh").double()
    expected = squashing.sensitivities(layer, h, S, targets=[2, 7])
    for targets in (torch.tensor([2, 7]), np.array([2, 7]), (torch.tensor(2, dtype=torch.int32), 7)):
        assert torch.equal(squashing.sensitivities(layer, h, S, targets=targets), expected)
    with pytest.raises(TypeError, match="source must be an integer; it was tensor\\(True\\)"):
        squashing.sensitivity(layer, h, S, source=torch.tensor(True), target=0)


def test_sensitivities_can_be_taken_in_inference_mode_and_through_layers_that_work_in_place():
    h, S = features(10, 3), graphs.normalized_adjacency(graphs.ring(10), 10, dtype=F64)
    layers = [GCN(3, 3, "tanh").double(), torch.nn.ReLU(), GCN(3, 3, None).double()]
    expected = squashing.sensitivities(layers, h, S)
    with torch.inference_mode():
        assert torch.equal(squashing.sensitivities(layers, h, S), expected)
    layers[1], kept = torch.nn.ReLU(inplace=True), h.clone()
    assert torch.equal(squashing.sensitivities(layers, h, S), expected) and torch.equal(h, kept)
