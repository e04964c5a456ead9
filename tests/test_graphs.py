"""Operators, spectra, distances and generators against the laws they must hold and against networkx."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import get_laplacian, scatter, to_dense_adj

from gnnssm_lite import graphs, jacobian
from gnnssm_lite.models import GCN, GraphSAGE

FLOAT64 = torch.float64
OPERATORS = (graphs.adjacency, graphs.normalized_adjacency, graphs.mean_adjacency, graphs.laplacian)
generated = settings(max_examples=250, deadline=None, derandomize=True, database=None)


@st.composite
def any_graph(draw, max_nodes=12):
    """A graph with any set of edges: empty, disconnected, with isolated nodes and with self-loops."""
    n = draw(st.integers(1, max_nodes))
    node = st.integers(0, n - 1)
    pairs = draw(st.lists(st.tuples(node, node), max_size=2 * n))
    both = sorted({edge for u, v in pairs for edge in ((u, v), (v, u))})
    return torch.tensor(both, dtype=torch.long).reshape(-1, 2).t(), n


def networkx_graph(edge_index, n):
    graph = nx.empty_graph(n)
    graph.add_edges_from(edge_index.t().tolist())
    return graph


# ---------------------------------------------------------------- Â

@generated
@given(any_graph())
def test_normalized_adjacency_invariants(graph):
    """Symmetric, non-negative, eigenvalues in (-1, 1], and 1 as often as there are components."""
    edge_index, n = graph
    S = graphs.normalized_adjacency(edge_index, n, dtype=FLOAT64)
    eigenvalues = torch.linalg.eigvalsh(S)
    components = nx.number_connected_components(networkx_graph(edge_index, n))
    assert torch.equal(S, S.T)
    assert (S >= 0).all() and (S.diagonal() > 0).all()
    assert eigenvalues[-1] == pytest.approx(1, abs=1e-12)
    assert eigenvalues[0] > -1 + 1e-6
    assert int((eigenvalues > 1 - 1e-9).sum()) == components
    root_degree = (S > 0).sum(1).double().sqrt()
    assert torch.allclose(S @ root_degree, root_degree, atol=1e-12)  # Â D̃^{1/2} 1 = D̃^{1/2} 1


@generated
@given(any_graph())
def test_normalized_adjacency_equals_torch_geometric(graph):
    edge_index, n = graph
    edges, weight = gcn_norm(edge_index, None, n, dtype=FLOAT64)
    expected = torch.zeros(n, n, dtype=FLOAT64).index_put_((edges[1], edges[0]), weight, accumulate=True)
    assert torch.allclose(graphs.normalized_adjacency(edge_index, n, dtype=FLOAT64), expected, atol=1e-14)


@generated
@given(any_graph())
def test_sparse_operator_equals_dense(graph):
    edge_index, n = graph
    h = torch.arange(2 * n, dtype=FLOAT64).reshape(n, 2)
    for build in OPERATORS:
        dense, sparse = build(edge_index, n, dtype=FLOAT64), build(edge_index, n, "sparse", FLOAT64)
        assert sparse.layout == torch.sparse_csr
        assert torch.equal(graphs.to_dense(sparse), dense)
        assert torch.allclose(sparse @ h, dense @ h, atol=1e-12)
        assert {*map(tuple, graphs.edges_of(sparse).t().tolist())} == {*map(tuple, dense.nonzero().tolist())}


@generated
@given(any_graph(), st.permutations(range(12)))
def test_operators_commute_with_renumbering(graph, order):
    edge_index, n = graph
    order = torch.tensor([i for i in order if i < n])
    for build in OPERATORS:
        S = build(edge_index, n, dtype=FLOAT64)
        assert torch.allclose(build(order[edge_index], n, dtype=FLOAT64)[order][:, order], S, atol=1e-14)


def test_edge_weights_enter_like_torch_geometrics(grid_graph):
    edge_index, n = grid_graph
    weight = 0.5 + (edge_index[0] * edge_index[1]).double() / n  # the same for both directions
    A = graphs.adjacency(edge_index, n, dtype=FLOAT64, edge_weight=weight)
    assert torch.equal(A, to_dense_adj(edge_index, edge_attr=weight, max_num_nodes=n)[0])
    edges, normalized = gcn_norm(edge_index, weight, n)
    expected = torch.zeros(n, n, dtype=FLOAT64).index_put_((edges[1], edges[0]), normalized, accumulate=True)
    assert torch.allclose(graphs.normalized_adjacency(edge_index, n, dtype=FLOAT64, edge_weight=weight), expected)
    L = graphs.laplacian(edge_index, n, dtype=FLOAT64, edge_weight=weight)
    assert torch.allclose(L, torch.diag(A.sum(1)) - A)


def test_weighted_means_are_those_over_edges_repeated_as_often(grid_graph):
    """Weights 0 to 3 against torch-geometric's mean over edges that come 0 to 3 times; no edges left, no mean."""
    edge_index, n = grid_graph
    times = (edge_index[0] * edge_index[1]) % 4
    times[(edge_index == 11).any(0)] = 0  # the last corner is isolated then
    h = torch.randn(n, 3, dtype=FLOAT64)
    repeated = edge_index.repeat_interleave(times, 1)
    expected = scatter(h[repeated[1]], repeated[0], 0, n, "mean")
    for layout in graphs.LAYOUTS:
        P = graphs.mean_adjacency(edge_index, n, layout, FLOAT64, edge_weight=times.double())
        assert torch.allclose(P @ h, expected, atol=1e-14) and not (P @ h)[11].any()
    ones = torch.ones(edge_index.shape[1])
    assert torch.equal(graphs.mean_adjacency(edge_index, n, edge_weight=ones), graphs.mean_adjacency(edge_index, n))
    assert float(graphs.mean_adjacency(graphs.star(400), 400, dtype=torch.bfloat16)[0].sum(dtype=FLOAT64)) == pytest.approx(1, rel=0.01)


def test_an_edge_of_weight_zero_is_no_edge():
    """Both layouts agree on the pattern, also where the sparse one stores a zero."""
    weight = torch.tensor([1.0, 0.0, 1.0, 0.0])
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 2, 0, 1]])
    dense, sparse = (graphs.adjacency(edge_index, 3, layout, edge_weight=weight) for layout in graphs.LAYOUTS)
    assert graphs.edges_of(sparse).tolist() == graphs.edges_of(dense).tolist() == [[0, 1], [1, 0]]


def test_isolated_node_keeps_its_features_under_A_hat():
    S = graphs.normalized_adjacency(graphs.path(3), 5, dtype=FLOAT64)
    assert torch.equal(S[3:], torch.eye(5, dtype=FLOAT64)[3:])


def test_a_self_loop_given_is_not_added_again():
    """As in torch-geometric: the loop at node 0 stays the only one, and the isolated node 2 gets one."""
    edge_index = torch.tensor([[0, 0, 1], [0, 1, 0]])
    S = graphs.normalized_adjacency(edge_index, 3, dtype=FLOAT64)
    assert torch.allclose(S, torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype=FLOAT64))


# ---------------------------------------------------------------- L and D^{-1} A

@generated
@given(any_graph())
def test_laplacian_invariants(graph):
    """Symmetric, positive semi-definite, rows sum to zero, nullity = number of components."""
    edge_index, n = graph
    L = graphs.laplacian(edge_index, n, dtype=FLOAT64)
    eigenvalues = torch.linalg.eigvalsh(L)
    assert torch.equal(L, L.T)
    assert torch.equal(L.sum(1), torch.zeros(n, dtype=FLOAT64))
    assert eigenvalues[0] > -1e-10
    assert int((eigenvalues < 1e-8).sum()) == nx.number_connected_components(networkx_graph(edge_index, n))
    proper = edge_index[:, edge_index[0] < edge_index[1]]
    x = torch.arange(n, dtype=FLOAT64) ** 2
    assert float(x @ L @ x) == pytest.approx(float(((x[proper[0]] - x[proper[1]]) ** 2).sum()))


def test_laplacian_equals_torch_geometrics(graph):
    edge_index, n = graph
    edges, weight = get_laplacian(edge_index, num_nodes=n, dtype=FLOAT64)
    expected = to_dense_adj(edges, edge_attr=weight, max_num_nodes=n)[0]
    assert torch.equal(graphs.laplacian(edge_index, n, dtype=FLOAT64), expected)


def test_mean_adjacency_averages_over_neighbours(graph):
    edge_index, n = graph
    P = graphs.mean_adjacency(edge_index, n, dtype=FLOAT64)
    degree = torch.bincount(edge_index[0], minlength=n)
    assert torch.allclose(P.sum(1), (degree > 0).double())  # zero row for an isolated node
    assert torch.equal(P > 0, graphs.adjacency(edge_index, n) > 0)


def test_operator_gives_what_a_layer_asks_for(grid_graph):
    assert torch.equal(graphs.operator(GCN.operator, *grid_graph), graphs.normalized_adjacency(*grid_graph))
    assert torch.equal(graphs.operator(GraphSAGE.operator, *grid_graph), graphs.mean_adjacency(*grid_graph))
    weight = 0.5 + (grid_graph[0][0] * grid_graph[0][1]).float()
    for kind, build in (("normalized", graphs.normalized_adjacency), ("mean", graphs.mean_adjacency), ("adjacency", graphs.adjacency)):
        weighted = build(*grid_graph, edge_weight=weight)
        assert torch.equal(graphs.operator(kind, *grid_graph, edge_weight=weight), weighted)
        assert not torch.equal(weighted, build(*grid_graph))


# ---------------------------------------------------------------- spectra

@generated
@given(any_graph())
def test_spectrum_by_components_equals_the_whole(graph):
    edge_index, n = graph
    for build in (graphs.normalized_adjacency, graphs.laplacian):
        whole = torch.linalg.eigvalsh(build(edge_index, n, dtype=FLOAT64))
        for layout in graphs.LAYOUTS:
            assert torch.allclose(graphs.spectrum(build(edge_index, n, layout, FLOAT64)), whole, atol=1e-12)


def test_symmetric_eigen_gives_orthonormal_eigenvectors(graph):
    edge_index, n = graph
    S = graphs.normalized_adjacency(edge_index, n, dtype=FLOAT64)
    nodes_seen = []
    for nodes, values, vectors in graphs.symmetric_eigen(S):
        block = S[nodes][:, nodes]
        assert torch.allclose(block @ vectors, vectors * values, atol=1e-12)
        assert torch.allclose(vectors.T @ vectors, torch.eye(len(nodes), dtype=FLOAT64), atol=1e-12)
        nodes_seen += nodes.tolist()
    assert sorted(nodes_seen) == list(range(n))


def test_spectrum_of_a_float32_operator_is_found_in_float64(grid_graph):
    exact = graphs.spectrum(graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64))
    rounded = graphs.spectrum(graphs.normalized_adjacency(*grid_graph))
    assert rounded.dtype == FLOAT64 and torch.allclose(rounded, exact, atol=1e-6)


@pytest.mark.parametrize("n", [3, 4, 7, 12])
def test_ring_spectrum_is_the_known_cosine(n):
    """Â of a ring: λ_k = (1 + 2 cos(2πk/n)) / 3."""
    expected = np.sort((1 + 2 * np.cos(2 * np.pi * np.arange(n) / n)) / 3)
    S = graphs.normalized_adjacency(graphs.ring(n), n, dtype=FLOAT64)
    assert np.allclose(graphs.spectrum(S).numpy(), expected, atol=1e-13)


@generated
@given(any_graph(max_nodes=7), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2 ** 20))
def test_lemma_3_1_on_generated_graphs(graph, d, d_out, seed):
    """Kronecker way = singular values of the matrix Wᵀ ⊗ Â, formed with numpy."""
    edge_index, n = graph
    rng = np.random.default_rng(seed)
    layer = GCN(d, d_out, None).double()
    layer.weight.data = torch.from_numpy(rng.standard_normal((d, d_out)))
    h = torch.from_numpy(rng.standard_normal((n, d)))
    S = graphs.normalized_adjacency(edge_index, n, "sparse", FLOAT64)
    dense = np.linalg.svd(np.kron(layer.weight.detach().numpy().T, S.to_dense().numpy()), compute_uv=False)
    fast = jacobian.singular_values(layer, h, S, method="kronecker").numpy()
    assert fast.shape == (n * min(d, d_out),)
    assert np.abs(fast - dense).max() <= 1e-10 * dense.max()


# ---------------------------------------------------------------- distances and components

@generated
@given(any_graph())
def test_khop_shells_partition_the_reachable_pairs(graph):
    """Each ordered pair at finite distance k > 0 is in shell k and in no other; networkx agrees on k."""
    edge_index, n = graph
    distance = torch.full((n, n), torch.inf, dtype=FLOAT64)
    for source, lengths in nx.all_pairs_shortest_path_length(networkx_graph(edge_index, n)):
        for target, hops in lengths.items():
            distance[source, target] = hops
    shells = graphs.khop_shells(edge_index, n, max_hops=n)
    assert len(shells) == n
    for k, shell in enumerate(shells, start=1):
        assert shell.dtype == torch.int64
        assert torch.equal(shell, (distance == k).nonzero().t())  # same pairs, sorted
    assert torch.equal(graphs.shortest_path_lengths(edge_index, n), distance)
    assert torch.equal(graphs.shortest_path_lengths(edge_index, n, source=n - 1), distance[n - 1])


@generated
@given(any_graph())
def test_components_partition_the_nodes(graph):
    edge_index, n = graph
    parts = [set(part.tolist()) for part in graphs.connected_components(edge_index, n)]
    expected = [set(part) for part in nx.connected_components(networkx_graph(edge_index, n))]
    assert sorted(map(sorted, parts)) == sorted(map(sorted, expected))
    assert [len(part) for part in parts] == sorted(map(len, parts), reverse=True)
    edges, nodes = graphs.largest_component(edge_index, n)
    assert len(nodes) == len(parts[0]) and nx.is_connected(networkx_graph(edges, len(nodes)))
    induced = networkx_graph(edge_index, n).subgraph(nodes.tolist())
    assert {*map(tuple, nodes[edges].t().tolist())} == {(u, v) for a, b in induced.edges for u, v in ((a, b), (b, a))}


def test_largest_component_of_cora(cora_component):
    edge_index, n = cora_component
    assert n == 2485
    assert len(graphs.connected_components(edge_index, n)) == 1


# ---------------------------------------------------------------- generators

def as_networkx(name):
    return {
        "path": (graphs.path(6), nx.path_graph(6)), "ring": (graphs.ring(6), nx.cycle_graph(6)),
        "complete": (graphs.complete(5), nx.complete_graph(5)), "star": (graphs.star(5), nx.star_graph(4)),
        "grid": (graphs.grid(3, 4), nx.grid_2d_graph(3, 4)), "binary_tree": (graphs.binary_tree(3), nx.balanced_tree(2, 3)),
        "barbell": (graphs.barbell(4, 2), nx.barbell_graph(4, 2)), "caveman": (graphs.caveman(3, 4), nx.connected_caveman_graph(3, 4)),
        "single_row": (graphs.grid(1, 5), nx.path_graph(5)), "triangle": (graphs.ring(3), nx.complete_graph(3)),
    }[name]


@pytest.mark.parametrize("name", ["path", "ring", "complete", "star", "grid", "binary_tree", "barbell", "caveman",
                                  "single_row", "triangle"])
def test_generators_make_the_named_graph(name):
    edge_index, expected = as_networkx(name)
    assert edge_index.dtype == torch.int64
    graphs.adjacency(edge_index, len(expected))  # symmetric, no repetition
    assert (edge_index[0] != edge_index[1]).all()
    assert nx.is_isomorphic(networkx_graph(edge_index, len(expected)), expected)


@pytest.mark.parametrize("build", [lambda: graphs.path(1), lambda: graphs.star(1), lambda: graphs.complete(1),
                                   lambda: graphs.grid(1, 1), lambda: graphs.binary_tree(0), lambda: graphs.erdos_renyi(4, 0, 0)])
def test_smallest_graphs_have_no_edges_but_the_right_shape(build):
    assert build().shape == (2, 0) and build().dtype == torch.int64


def test_distances_named_in_docstrings():
    assert graphs.shortest_path_lengths(graphs.path(10), 10, source=0)[9] == 9
    assert graphs.shortest_path_lengths(graphs.ring(10), 10, source=0)[5] == 5
    assert graphs.shortest_path_lengths(graphs.grid(3, 4), 12, source=0)[11] == 5  # row 2, column 3


def test_erdos_renyi_repeats_with_its_seed():
    assert torch.equal(graphs.erdos_renyi(20, 0.2, seed=1), graphs.erdos_renyi(20, 0.2, seed=1))
    assert not torch.equal(graphs.erdos_renyi(20, 0.2, seed=1), graphs.erdos_renyi(20, 0.2, seed=2))
    assert torch.equal(graphs.erdos_renyi(6, 1, seed=0), graphs.complete(6))


def test_undirected_adds_reverses_and_drops_loops_and_repetitions():
    assert graphs.undirected(torch.tensor([[2, 0, 1, 1], [0, 2, 1, 0]])).tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]


def test_distances_from_some_nodes_are_rows_of_all_distances():
    edge_index = graphs.grid(3, 4)
    everything = graphs.shortest_path_lengths(edge_index, 12)
    assert torch.equal(graphs.shortest_path_lengths(edge_index, 12, [5, 0]), everything[[5, 0]])
    with pytest.raises(ValueError, match="source must be a node from 0 to 11; it was 12"):
        graphs.shortest_path_lengths(edge_index, 12, [0, 12])
