"""Bad input is refused with a ValueError or TypeError that names the argument, what it was and what it must be.

Each row: a call, the exception, and words that its message must hold (argument, value, expectation). What is unusual
but right (isolated nodes, a disconnected graph, no edges at all) is handled, and the last section shows how.
"""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv, GCNConv

from gnnssm_lite import graphs, jacobian, spectra, squashing
from gnnssm_lite.device import default_device
from gnnssm_lite.models import GAT, GCN, GIN, GNNSSM, GatedGCN, GraphSAGE, haar_orthogonal, state_matrix
from gnnssm_lite.models.convolutions import resolve_activation

FLOAT64 = torch.float64
NAN = float("nan")
RING, PATH = graphs.ring(4), graphs.path(3)
H, S = torch.ones(4, 3), graphs.normalized_adjacency(RING, 4)
LAYER = GCN(3, 2)
LINEAR, LAYER_3 = GCN(3, 3, None), GCN(3, 3, "tanh")
NO_EDGES = torch.empty(2, 0, dtype=torch.long)


def edges(*pairs, dtype=torch.long):
    return torch.tensor(pairs, dtype=dtype).t()


def with_nan(tensor):
    tensor = tensor.clone(memory_format=torch.contiguous_format)
    tensor.view(-1)[1] = NAN
    return tensor


def check(cases):
    """Turn ``{name: (call, exception, words)}`` into test parameters."""
    return pytest.mark.parametrize(("call", "error", "words"), [pytest.param(*case, id=name) for name, case in cases.items()])


def assert_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"


# ---------------------------------------------------------------- graphs

BAD_EDGES = {
    "one_way_edge": (edges((0, 1), (1, 2), (2, 1)), 3, ValueError, ["edge_index", "symmetric", "(0, 1)", "no reverse (1, 0)"]),
    "edge_twice": (edges((0, 1), (1, 0), (0, 1)), 3, ValueError, ["edge_index", "(0, 1) comes twice", "once"]),
    "self_loop_twice": (edges((1, 1), (1, 1)), 3, ValueError, ["edge_index", "(1, 1) comes twice", "once"]),
    "node_too_large": (edges((0, 3), (3, 0)), 3, ValueError, ["edge_index", "0 to 2", "holds 3"]),
    "node_negative": (edges((0, -1), (-1, 0)), 3, ValueError, ["edge_index", "0 to 2", "holds -1"]),
    "no_nodes": (NO_EDGES, 0, ValueError, ["num_nodes", "at least 1", "it was 0"]),
    "negative_nodes": (NO_EDGES, -2, ValueError, ["num_nodes", "at least 1", "it was -2"]),
    "nodes_float": (RING, 4.0, TypeError, ["num_nodes", "integer", "4.0 of type float"]),
    "nodes_bool": (NO_EDGES, True, TypeError, ["num_nodes", "integer", "True of type bool"]),
    "nodes_none": (RING, None, TypeError, ["num_nodes", "integer", "None of type NoneType"]),
    "edges_float": (RING.float(), 4, TypeError, ["edge_index", "integer dtype", "torch.float32"]),
    "edges_nan": (with_nan(RING.float()), 4, TypeError, ["edge_index", "integer dtype", "torch.float32"]),
    "edges_bool": (RING.bool(), 4, TypeError, ["edge_index", "integer dtype", "torch.bool"]),
    "edges_list": ([[0, 1], [1, 0]], 4, TypeError, ["edge_index", "torch.Tensor", "list"]),
    "edges_numpy": (RING.numpy(), 4, TypeError, ["edge_index", "torch.Tensor", "ndarray"]),
    "edges_transposed": (RING.t(), 4, ValueError, ["edge_index", "(2, number of edges)", "(8, 2)"]),
    "edges_flat": (RING.reshape(-1), 4, ValueError, ["edge_index", "(2, number of edges)", "(16,)"]),
    "matrix_for_edges": (S, 4, TypeError, ["edge_index", "integer dtype", "torch.float32"]),
}
TAKE_A_GRAPH = {
    "adjacency": graphs.adjacency, "normalized_adjacency": graphs.normalized_adjacency, "laplacian": graphs.laplacian,
    "mean_adjacency": graphs.mean_adjacency, "operator": lambda e, n: graphs.operator("normalized", e, n),
    "khop_shells": lambda e, n: graphs.khop_shells(e, n, 2), "shortest_path_lengths": graphs.shortest_path_lengths,
    "connected_components": graphs.connected_components, "largest_component": graphs.largest_component,
}


@pytest.mark.parametrize("function", TAKE_A_GRAPH)
@pytest.mark.parametrize("case", BAD_EDGES)
def test_bad_graph(case, function):
    edge_index, num_nodes, error, words = BAD_EDGES[case]
    assert_refused(lambda: TAKE_A_GRAPH[function](edge_index, num_nodes), error, words)


BAD_WEIGHTS = {
    "negative": (torch.tensor([1.0, -0.5, 1.0, -0.5]), ValueError, ["edge_weight", "non-negative", "-0.5"]),
    "nan": (torch.tensor([1.0, NAN, 1.0, NAN]), ValueError, ["edge_weight", "finite", "2 of its 4 entries"]),
    "infinite": (torch.tensor([1.0, torch.inf, 1.0, 1.0]), ValueError, ["edge_weight", "finite", "1 of its 4 entries"]),
    "asymmetric": (torch.tensor([1.0, 1.0, 1.0, 1.3]), ValueError, ["edge_weight", "symmetric", "max |A - Aᵀ| = 0.3"]),
    "too_few": (torch.ones(3), ValueError, ["edge_weight", "(4,)", "(3,)"]),
    "column": (torch.ones(4, 1), ValueError, ["edge_weight", "(4,)", "(4, 1)"]),
    "integers": (torch.ones(4, dtype=torch.long), TypeError, ["edge_weight", "floating-point", "torch.int64"]),
    "list": ([1.0, 1, 1, 1], TypeError, ["edge_weight", "torch.Tensor", "list"]),
}


@pytest.mark.parametrize("build", [graphs.adjacency, graphs.normalized_adjacency, graphs.laplacian])
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_edge_weight(case, build):
    weight, error, words = BAD_WEIGHTS[case]
    assert_refused(lambda: build(PATH, 3, edge_weight=weight), error, words)


@check({
    "layout": (lambda: graphs.normalized_adjacency(RING, 4, layout="coo"), ValueError, ["layout", "'dense', 'sparse'", "'coo'"]),
    "dtype_int": (lambda: graphs.laplacian(RING, 4, dtype=torch.int64), TypeError, ["dtype", "floating-point", "torch.int64"]),
    "dtype_text": (lambda: graphs.adjacency(RING, 4, dtype="float32"), TypeError, ["dtype", "torch.dtype", "'float32'"]),
    "mean_dtype": (lambda: graphs.mean_adjacency(RING, 4, dtype=torch.int64), TypeError, ["dtype", "floating-point", "int64"]),
    "kind": (lambda: graphs.operator("random_walk", RING, 4), ValueError, ["kind", "'normalized'", "'random_walk'"]),
    "hops_zero": (lambda: graphs.khop_shells(RING, 4, 0), ValueError, ["max_hops", "at least 1", "it was 0"]),
    "hops_float": (lambda: graphs.khop_shells(RING, 4, 2.0), TypeError, ["max_hops", "integer", "2.0"]),
    "source_outside": (lambda: graphs.shortest_path_lengths(RING, 4, 4), ValueError, ["source", "0 to 3", "it was 4"]),
    "source_negative": (lambda: graphs.shortest_path_lengths(RING, 4, -1), ValueError, ["source", "it was -1"]),
    "source_float": (lambda: graphs.shortest_path_lengths(RING, 4, 1.0), TypeError, ["source", "integer", "1.0"]),
    "asymmetric": (lambda: graphs.spectrum(graphs.mean_adjacency(PATH, 3)), ValueError, ["S", "symmetric", "max |S - Sᵀ| = 0.5"]),
    "not_square": (lambda: graphs.spectrum(torch.ones(2, 3)), ValueError, ["S", "square", "(2, 3)"]),
    "matrix_nan": (lambda: graphs.spectrum(with_nan(S)), ValueError, ["S", "finite", "1 of its 16 entries"]),
    "matrix_int": (lambda: graphs.spectrum(torch.eye(3).long()), TypeError, ["S", "floating-point", "torch.int64"]),
    "matrix_numpy": (lambda: graphs.symmetric_eigen(np.eye(3)), TypeError, ["S", "torch.Tensor", "ndarray"]),
    "batch": (lambda: graphs.spectrum(torch.ones(2, 3, 3)), ValueError, ["S", "square", "(2, 3, 3)"]),
})
def test_bad_graph_options(call, error, words):
    assert_refused(call, error, words)


@check({
    "path_0": (lambda: graphs.path(0), ValueError, ["n must", "at least 1", "it was 0"]),
    "ring_2": (lambda: graphs.ring(2), ValueError, ["n must", "at least 3", "it was 2"]),
    "complete_0": (lambda: graphs.complete(0), ValueError, ["n must", "at least 1", "it was 0"]),
    "star_float": (lambda: graphs.star(3.5), TypeError, ["n must", "integer", "3.5"]),
    "grid_rows": (lambda: graphs.grid(0, 3), ValueError, ["rows", "at least 1", "it was 0"]),
    "grid_cols": (lambda: graphs.grid(3, "4"), TypeError, ["cols", "integer", "'4'"]),
    "tree": (lambda: graphs.binary_tree(-1), ValueError, ["depth", "at least 0", "it was -1"]),
    "barbell_clique": (lambda: graphs.barbell(1), ValueError, ["clique", "at least 2", "it was 1"]),
    "barbell_bridge": (lambda: graphs.barbell(3, -1), ValueError, ["bridge", "at least 0", "it was -1"]),
    "caveman": (lambda: graphs.caveman(1, 3), ValueError, ["caves", "at least 2", "it was 1"]),
    "caveman_size": (lambda: graphs.caveman(3, 1), ValueError, ["size", "at least 2", "it was 1"]),
    "probability": (lambda: graphs.erdos_renyi(5, 1.5, 0), ValueError, ["p must", "between 0 and 1", "it was 1.5"]),
    "probability_nan": (lambda: graphs.erdos_renyi(5, NAN, 0), ValueError, ["p must", "between 0 and 1", "nan"]),
    "probability_text": (lambda: graphs.erdos_renyi(5, "half", 0), TypeError, ["p must", "number", "'half'"]),
    "seed": (lambda: graphs.erdos_renyi(5, 0.5, -1), ValueError, ["seed", "at least 0", "it was -1"]),
    "seed_none": (lambda: graphs.erdos_renyi(5, 0.5, None), TypeError, ["seed", "integer", "None"]),
    "undirected_shape": (lambda: graphs.undirected(torch.ones(3, 2).long()), ValueError, ["pairs", "(2, ", "(3, 2)"]),
    "undirected_list": (lambda: graphs.undirected([[0], [1]]), TypeError, ["pairs", "torch.Tensor", "list"]),
})
def test_bad_generator(call, error, words):
    assert_refused(call, error, words)


# ---------------------------------------------------------------- layers

ALL_LAYERS = {"gcn": GCN, "gat": GAT, "sage": GraphSAGE, "gin": GIN, "gated": GatedGCN}
BAD_FORWARD = {
    "h_list": (lambda: [[1.0]], lambda: S, TypeError, ["h must", "torch.Tensor", "list"]),
    "h_integers": (lambda: H.long(), lambda: S, TypeError, ["h must", "floating-point", "torch.int64"]),
    "h_vector": (lambda: H[0], lambda: S, ValueError, ["h must", "(..., nodes, features)", "(3,)"]),
    "h_width": (lambda: H[:, :2], lambda: S, ValueError, ["h must", "3 features", "(4, 2)"]),
    "h_double": (lambda: H.double(), lambda: S.double(), TypeError, ["h must", "torch.float32", "torch.float64"]),
    "S_double": (lambda: H, lambda: S.double(), TypeError, ["S must", "torch.float32", "torch.float64"]),
    "S_numpy": (lambda: H, lambda: S.numpy(), TypeError, ["S must", "torch.Tensor", "ndarray"]),
    "S_edge_index": (lambda: H, lambda: RING, TypeError, ["S must", "torch.float32", "torch.int64"]),
    "S_smaller": (lambda: H, lambda: S[:3, :3], ValueError, ["S must", "(..., 4, 4)", "(3, 3)"]),
    "S_not_square": (lambda: H, lambda: S[:2], ValueError, ["S must", "(..., 4, 4)", "(2, 4)"]),
    "S_coo": (lambda: H, lambda: S.to_sparse(), ValueError, ["S must", "torch.sparse_csr", "torch.sparse_coo"]),
    "sparse_batch": (lambda: torch.ones(2, 4, 3), lambda: graphs.adjacency(RING, 4, "sparse"), ValueError,
                     ["S must", "dense for batched h", "torch.sparse_csr"]),
}


@pytest.mark.parametrize("name", ALL_LAYERS)
@pytest.mark.parametrize("case", BAD_FORWARD)
def test_bad_layer_input(case, name):
    h, operator, error, words = BAD_FORWARD[case]
    assert_refused(lambda: ALL_LAYERS[name](3, 2)(h(), operator()), error, words)


@pytest.mark.parametrize("name", ALL_LAYERS)
def test_bad_layer_arguments(name):
    layer = ALL_LAYERS[name]
    assert_refused(lambda: layer(0, 2), ValueError, ["in_dim", "at least 1", "it was 0"])
    assert_refused(lambda: layer(3, -1), ValueError, ["out_dim", "at least 1", "it was -1"])
    assert_refused(lambda: layer(3.0, 2), TypeError, ["in_dim", "integer", "3.0"])
    assert_refused(lambda: layer(3, 2, "swish"), ValueError, ["activation", "'relu'", "'swish'"])
    assert_refused(lambda: layer(3, 2, 7), TypeError, ["activation", "function", "7"])


@check({
    "heads": (lambda: GAT(3, 4, heads=3), ValueError, ["heads", "divide out_dim = 4", "it was 3"]),
    "no_heads": (lambda: GAT(3, 4, heads=0), ValueError, ["heads", "at least 1", "it was 0"]),
    "activation": (lambda: resolve_activation("relu6"), ValueError, ["activation", "'relu'", "'relu6'"]),
})
def test_bad_layer_options(call, error, words):
    assert_refused(call, error, words)


# ---------------------------------------------------------------- state-space model

@check({
    "coupling": (lambda: GNNSSM("gcn", torch.eye(3)), TypeError, ["coupling", "callable", "str"]),
    "not_square": (lambda: GNNSSM(LINEAR, torch.ones(3, 4)), ValueError, ["state_matrix", "square", "(3, 4)"]),
    "numpy": (lambda: GNNSSM(LINEAR, np.eye(3)), TypeError, ["state_matrix", "torch.Tensor", "ndarray"]),
    "integers": (lambda: GNNSSM(LINEAR, torch.eye(3).long()), TypeError, ["state_matrix", "floating-point", "torch.int64"]),
    "nan": (lambda: GNNSSM(LINEAR, with_nan(torch.eye(3))), ValueError, ["state_matrix", "finite", "1 of its 9"]),
    "B_width": (lambda: GNNSSM(LINEAR, torch.eye(3), torch.ones(3, 2)), ValueError, ["input_matrix", "(coupling width, 3)", "(3, 2)"]),
    "B_vector": (lambda: GNNSSM(LINEAR, torch.eye(3), torch.ones(3)), ValueError, ["input_matrix", "(coupling width, 3)", "(3,)"]),
    "B_nan": (lambda: GNNSSM(LINEAR, torch.eye(3), with_nan(torch.eye(3))), ValueError, ["input_matrix", "finite"]),
    "B_double": (lambda: GNNSSM(LINEAR, torch.eye(3), torch.eye(3).double()), TypeError,
                 ["input_matrix", "torch.float32", "torch.float64"]),
    "h_width": (lambda: GNNSSM(None, torch.eye(2))(H), ValueError, ["h must", "2 features", "(4, 3)"]),
    "h_double": (lambda: GNNSSM(None, torch.eye(3))(H.double()), TypeError, ["h must", "torch.float32", "torch.float64"]),
    "h_vector": (lambda: GNNSSM(None, torch.eye(3))(H[0]), ValueError, ["h must", "(..., nodes, features)", "(3,)"]),
    "coupling_width": (lambda: GNNSSM(GCN(3, 1), torch.eye(3))(H, S), ValueError, ["coupling", "(4, 3)", "(4, 1)"]),
    "B_rows": (lambda: GNNSSM(LINEAR, torch.eye(3), torch.ones(5, 3))(H, S), ValueError, ["coupling", "(4, 5)", "(4, 3)"]),
    "dim": (lambda: state_matrix(0), ValueError, ["dim", "at least 1", "it was 0"]),
    "dim_float": (lambda: state_matrix(3.0), TypeError, ["dim", "integer", "3.0"]),
    "eig_negative": (lambda: state_matrix(3, -1.0), ValueError, ["eig", "at least 0", "-1.0"]),
    "eig_nan": (lambda: state_matrix(3, NAN), ValueError, ["eig", "finite", "nan"]),
    "eig_complex": (lambda: state_matrix(3, 1j), TypeError, ["eig", "real number", "1j of type complex"]),
    "kind": (lambda: state_matrix(3, kind="haar"), ValueError, ["kind", "'orthogonal'", "'haar'"]),
    "dtype": (lambda: state_matrix(3, dtype=torch.int64), TypeError, ["dtype", "floating-point", "torch.int64"]),
    "haar_dim": (lambda: haar_orthogonal(0), ValueError, ["dim", "at least 1", "it was 0"]),
})
def test_bad_state_space_model(call, error, words):
    assert_refused(call, error, words)


# ---------------------------------------------------------------- Jacobians

TAKE_A_LAYER = {
    "layer_jacobian": jacobian.layer_jacobian, "singular_values": jacobian.singular_values, "eigenvalues": jacobian.eigenvalues,
    "product_jacobian": lambda layer, *rest: jacobian.product_jacobian([layer], *rest),
    "gradient_norms": lambda layer, *rest: jacobian.gradient_norms([layer], *rest),
    "spectral_norm": jacobian.spectral_norm, "spectral_density": jacobian.spectral_density,
    "JacobianProduct": jacobian.JacobianProduct,
}
BAD_POINTS = {
    "nan": (lambda: with_nan(H), ValueError, ["h must", "finite", "1 of its 12 entries"]),
    "infinite": (lambda: H / 0, ValueError, ["h must", "finite", "12 of its 12 entries"]),
    "integers": (lambda: H.long(), TypeError, ["h must", "floating-point", "torch.int64"]),
    "list": (lambda: [[1.0]], TypeError, ["h must", "torch.Tensor", "list"]),
    "vector": (lambda: H[0], ValueError, ["h must", "(3,)"]),
    "batch": (lambda: H[None], ValueError, ["h must", "(nodes, features)", "(1, 4, 3)"]),
    "no_nodes": (lambda: H[:0], ValueError, ["h must", "at least one node", "(0, 3)"]),
    "no_features": (lambda: H[:, :0], ValueError, ["h must", "one feature", "(4, 0)"]),
    "width": (lambda: H[:, :2], ValueError, ["h must", "3 features", "(4, 2)"]),
    "dtype": (lambda: H.double(), TypeError, ["torch.float32", "torch.float64"]),
    "nodes": (lambda: torch.ones(5, 3), ValueError, ["S must", "(..., 5, 5)", "(4, 4)"]),
}


@pytest.mark.parametrize("function", TAKE_A_LAYER)
@pytest.mark.parametrize("case", BAD_POINTS)
def test_bad_point_of_a_jacobian(case, function):
    h, error, words = BAD_POINTS[case]
    assert_refused(lambda: TAKE_A_LAYER[function](LINEAR, h(), S), error, words)


@pytest.mark.parametrize("function", TAKE_A_LAYER)
def test_bad_layer_of_a_jacobian(function):
    call = TAKE_A_LAYER[function]
    assert_refused(lambda: call(lambda h: h.numpy(), H), TypeError, ["layer must return", "torch.Tensor"]) if function not in (
        "gradient_norms", "JacobianProduct", "spectral_norm", "spectral_density") else None
    assert_refused(lambda: call(lambda h: [h], H), TypeError, ["layer must return", "torch.Tensor", "list"])
    assert_refused(lambda: call(lambda h: h.sum(0, keepdim=True), H), ValueError, ["layer must return", "4 rows", "(1, 3)"])
    assert_refused(lambda: call(lambda h: h.sum(), H), ValueError, ["layer must return", "4 rows", "()"])
    assert_refused(lambda: call("gcn", H), TypeError, ["layer", "callable", "str"])
    assert_refused(lambda: call(LINEAR, H), TypeError, ["S"])  # the graph was forgotten: no silent identity


class NoGrad(GCN):
    def forward(self, h, S):
        with torch.no_grad():
            return super().forward(h, S)


DEPEND = ["layer must depend on h through operations that torch differentiates"]
CUT = {"no_grad": NoGrad(3, 3, "tanh"), "linear": NoGrad(3, 3, None), "detach": lambda h, S: LINEAR(h.detach(), S)}


@pytest.mark.parametrize("layer", CUT.values(), ids=CUT)
@pytest.mark.parametrize("function", TAKE_A_LAYER)
def test_a_layer_that_cuts_the_gradient_has_no_jacobian_of_zeros(function, layer):
    """Neither alone nor between two layers; inside no_grad, where chapters may stand, the same."""
    call = TAKE_A_LAYER[function]
    words = DEPEND if layer is not CUT["detach"] else ["layer must depend on h"]
    h = H * torch.arange(1, 4)
    assert_refused(lambda: call(layer, h, S), ValueError, words)
    with torch.no_grad():
        assert_refused(lambda: call(layer, h, S), ValueError, words)
    assert_refused(lambda: call(jacobian.compose([LAYER_3, layer, LAYER_3]), h, S), ValueError, ["layer must depend on h"])


@pytest.mark.parametrize("layer", CUT.values(), ids=CUT)
def test_a_layer_that_cuts_the_gradient_is_refused_in_a_stack_and_has_no_sensitivity(layer):
    h, stack = H * torch.arange(1, 4), [LAYER_3, layer, LAYER_3]
    for model in (layer, stack):
        assert_refused(lambda m=model: squashing.sensitivity(m, h, S, source=0, target=1), ValueError, DEPEND)
        assert_refused(lambda m=model: squashing.sensitivities(m, h, S), ValueError, DEPEND)
    assert_refused(lambda: jacobian.gradient_norms(stack, h, S), ValueError, DEPEND)
    assert_refused(lambda: jacobian.product_jacobian(stack, h, S), ValueError, DEPEND)


TRAINED = {"dropout": lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), "batch_norm": lambda: nn.BatchNorm1d(3)}


@pytest.mark.parametrize("inside", [lambda layer: layer, lambda layer: jacobian.compose([torch.tanh, layer])], ids=["alone", "stack"])
@pytest.mark.parametrize("module", TRAINED)
@pytest.mark.parametrize("function", [*TAKE_A_LAYER, "sensitivities"])
def test_training_mode_is_warned_of_once_and_evaluation_never(function, module, inside):
    call = TAKE_A_LAYER.get(function, squashing.sensitivities)
    layer, h = TRAINED[module](), H + torch.arange(4)[:, None]
    with pytest.warns(UserWarning, match=r"layer holds (Dropout|BatchNorm1d) in training mode.* eval\(\)") as caught:
        call(inside(layer), h)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(inside(layer.eval()), h)
        call(inside(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0))), h)


def test_convolutions_with_dropout_of_their_own_are_warned_of():
    with pytest.warns(UserWarning, match="layer holds GATConv in training mode"):
        jacobian.spectral_norm(GATConv(3, 3, dropout=0.5), H, RING)


@check({
    "method": (lambda: jacobian.singular_values(LINEAR, H, S, method="svd"), ValueError, ["method", "'kronecker'", "'svd'"]),
    "eigen_method": (lambda: jacobian.eigenvalues(LINEAR, H, S, method="svd"), ValueError, ["method", "'kronecker'", "'svd'"]),
    "not_linear": (lambda: jacobian.singular_values(GCN(3, 3, "tanh"), H, S, method="kronecker"), ValueError,
                   ["method 'kronecker'", "linear", "GCN(3, 3)"]),
    "width_changes": (lambda: jacobian.eigenvalues(GCN(3, 2, None), H, S), ValueError, ["layer", "width", "(3, 2)"]),
    "too_large": (lambda: jacobian.layer_jacobian(torch.tanh, torch.ones(2708, 64)), ValueError,
                  ["173312 x 173312", "GiB", "spectral_density"]),
    "no_layers": (lambda: jacobian.product_jacobian([], H, S), ValueError, ["layers", "at least one", "empty"]),
    "no_layers_compose": (lambda: jacobian.compose([]), ValueError, ["layers", "at least one", "empty"]),
    "one_layer": (lambda: jacobian.product_jacobian(LINEAR, H, S), TypeError, ["layers", "list of layers", "GCN"]),
    "one_layer_compose": (lambda: jacobian.compose(torch.tanh), TypeError, ["layers", "list of layers", "builtin_function"]),
    "one_layer_gradients": (lambda: jacobian.gradient_norms(LINEAR, H, S), TypeError, ["layers", "list of layers", "GCN"]),
    "no_gradients": (lambda: jacobian.gradient_norms([], H, S), ValueError, ["layers", "at least one", "empty"]),
    "detached": (lambda: jacobian.spectral_norm(lambda h: h.detach(), H), ValueError, ["layer", "depend on h"]),
    "tol_zero": (lambda: jacobian.spectral_norm(LINEAR, H, S, tol=0.0), ValueError, ["tol", "between 0 and 1", "0.0"]),
    "tol_nan": (lambda: jacobian.spectral_norm(LINEAR, H, S, tol=NAN), ValueError, ["tol", "between 0 and 1", "nan"]),
    "steps": (lambda: jacobian.spectral_norm(LINEAR, H, S, max_steps=0), ValueError, ["max_steps", "at least 1", "it was 0"]),
    "seed": (lambda: jacobian.spectral_norm(LINEAR, H, S, seed=-1), ValueError, ["seed", "at least 0", "it was -1"]),
    "probes": (lambda: jacobian.spectral_density(LINEAR, H, S, num_probes=0), ValueError, ["num_probes", "at least 1", "it was 0"]),
    "quadrature": (lambda: jacobian.spectral_density(LINEAR, H, S, num_steps=0), ValueError, ["num_steps", "at least 1", "it was 0"]),
    "float_steps": (lambda: jacobian.spectral_density(LINEAR, H, S, num_steps=2.5), TypeError, ["num_steps", "integer", "2.5"]),
})
def test_bad_jacobian_options(call, error, words):
    assert_refused(call, error, words)


# ---------------------------------------------------------------- spectra and device

LAWS = {
    "support": lambda c, v: spectra.marchenko_pastur_support(c, v), "pdf": lambda c, v: spectra.marchenko_pastur_pdf([1.0], c, v),
    "cdf": lambda c, v: spectra.marchenko_pastur_cdf([1.0], c, v), "mixture_pdf": lambda c, v: spectra.jacobian_mixture_pdf([1.0], [1.0], c, v),
    "mixture_cdf": lambda c, v: spectra.jacobian_mixture_cdf([1.0], [1.0], c, v), "moments": lambda c, v: spectra.jacobian_moments([1.0], c, v),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1.0, ValueError), (NAN, ValueError), (float("inf"), ValueError),
                                              ("1", TypeError), (None, TypeError), (1j, TypeError)])
def test_bad_parameters_of_a_law(law, value, error):
    assert_refused(lambda: LAWS[law](value, 1.0), error, ["ratio", "positive", str(value)])
    assert_refused(lambda: LAWS[law](0.5, value), error, ["variance", "positive", str(value)])


@check({
    "x_nan": (lambda: spectra.marchenko_pastur_pdf([1.0, NAN], 0.5), ValueError, ["x must", "finite", "1 of its 2"]),
    "x_text": (lambda: spectra.marchenko_pastur_cdf(["a"], 0.5), TypeError, ["x must", "real numbers"]),
    "x_complex": (lambda: spectra.marchenko_pastur_pdf([1j], 0.5), TypeError, ["x must", "real numbers", "complex128"]),
    "lambdas_none": (lambda: spectra.jacobian_mixture_pdf([1.0], [], 0.5), ValueError, ["lambdas", "at least one", "empty"]),
    "lambdas_complex": (lambda: spectra.jacobian_mixture_pdf([1.0], torch.ones(2) * 1j, 0.5), TypeError, ["lambdas", "real", "complex"]),
    "lambdas_nan": (lambda: spectra.jacobian_moments([NAN], 0.5), ValueError, ["lambdas", "finite"]),
    "atom": (lambda: spectra.marchenko_pastur_atom(0), ValueError, ["ratio", "positive", "0.0"]),
    "mixture_atom": (lambda: spectra.jacobian_mixture_atom([], 0.5), ValueError, ["lambdas", "at least one", "empty"]),
    "eigenvalues_none": (lambda: spectra.edge_of_chaos_distance([]), ValueError, ["eigenvalues", "at least one", "empty"]),
    "eigenvalues_nan": (lambda: spectra.edge_of_chaos_distance([1.0, NAN]), ValueError, ["eigenvalues", "finite", "1 of its 2"]),
    "values_none": (lambda: spectra.distribution_distance([], np.array([0.0, 1.0]), np.array([0.0, 1.0])), ValueError,
                    ["values", "at least one", "empty"]),
    "cdf_shape": (lambda: spectra.distribution_distance([1.0], np.zeros(3), np.zeros(2)), ValueError, ["cdf", "(3,)", "(2,)"]),
    "device": (lambda: default_device("gpu"), ValueError, ["prefer", "'gpu'", "device"]),
})
def test_bad_law_input(call, error, words):
    assert_refused(call, error, words)


def test_missing_accelerator_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # so that the law is tried on a machine that has one, too
    assert_refused(lambda: default_device("cuda"), ValueError, ["prefer", "'cuda'", "available"])


# ---------------------------------------------------------------- unusual, and right

@pytest.mark.parametrize("layout", graphs.LAYOUTS)
@pytest.mark.parametrize("name", ALL_LAYERS)
def test_graphs_without_edges_and_with_isolated_nodes_are_handled(name, layout):
    """No edges at all, and a disconnected graph with isolated nodes: finite features, gradients and Jacobians."""
    for edge_index, n in ((NO_EDGES, 1), (NO_EDGES, 4), (edges((0, 1), (1, 0), (3, 4), (4, 3)), 6)):
        layer = ALL_LAYERS[name](3, 2).double()
        operator = graphs.operator(layer.operator, edge_index, n, layout, FLOAT64)
        h = torch.ones(n, 3, dtype=FLOAT64, requires_grad=True)
        out = layer(h, operator)
        out.sum().backward()
        assert torch.isfinite(out).all() and torch.isfinite(h.grad).all()
        assert torch.isfinite(jacobian.layer_jacobian(layer, h, operator)).all()
        assert np.isfinite(jacobian.spectral_norm(layer, h, operator))


def test_disconnected_graph_has_the_spectra_of_its_parts():
    both = torch.cat([graphs.path(3), graphs.ring(4) + 3], 1)
    parts = [graphs.spectrum(graphs.normalized_adjacency(e, n, dtype=FLOAT64)) for e, n in ((PATH, 3), (RING, 4), (NO_EDGES, 1))]
    whole = graphs.spectrum(graphs.normalized_adjacency(both, 8, dtype=FLOAT64))
    assert torch.allclose(whole, torch.sort(torch.cat(parts)).values, atol=1e-14)


def test_int32_edges_and_numpy_integers_are_taken():
    assert torch.equal(graphs.normalized_adjacency(RING.int(), np.int64(4)), S)
    assert graphs.largest_component(RING.int(), 4)[0].shape == (2, 8)


def test_laws_take_numpy_and_torch_scalars():
    assert spectra.marchenko_pastur_support(np.float32(0.25), torch.tensor(1.0)) == spectra.marchenko_pastur_support(0.25)


def test_torch_geometric_refuses_by_itself_what_it_does_not_know():
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        jacobian.singular_values(GCNConv(3, 3), H, torch.tensor([[0, 9], [9, 0]]))
