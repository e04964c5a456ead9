"""The Jacobian engine: Lemma 3.1, and its three ways against each other and against independent computations."""

import ast
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import nn
from torch_geometric.nn import GATConv, GCNConv, GINConv, GraphNorm, ResGatedGraphConv, SAGEConv
from torch_geometric.nn import norm as pyg_norm

import gnnssm_lite
from gnnssm_lite import graphs, jacobian, squashing
from gnnssm_lite.models import GAT, GCN, GIN, GNNSSM, GatedGCN, GraphSAGE, state_matrix
from gnnssm_lite.models.recurrence import haar_orthogonal

FLOAT64 = torch.float64
KARATE = gnnssm_lite.datasets.karate_club()
WIDTHS = [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)]


def random(*shape, seed=0, dtype=FLOAT64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64).to(dtype)


def linear_gcn(d, d_out, seed=1):
    layer = GCN(d, d_out, None).double()
    layer.weight.data = random(d, d_out, seed=seed) / d_out ** 0.5
    return layer


def mlp(d, d_out):
    return nn.Sequential(nn.Linear(d, d_out), nn.Tanh(), nn.Linear(d_out, d_out))


LAYERS = {
    "gcn": lambda d, d_out: GCN(d, d_out, "tanh"), "gat": lambda d, d_out: GAT(d, d_out, "tanh", heads=2),
    "sage": lambda d, d_out: GraphSAGE(d, d_out, "tanh"), "gin": lambda d, d_out: GIN(d, d_out, mlp=mlp(d, d_out)),
    "gated": lambda d, d_out: GatedGCN(d, d_out, "tanh"),
    "pyg_gcn": GCNConv, "pyg_gat": GATConv, "pyg_sage": SAGEConv, "pyg_gin": lambda d, d_out: GINConv(mlp(d, d_out)),
    "pyg_gated": ResGatedGraphConv,
}


def layer_and_graph(name, d, d_out, edge_index, n, layout="dense"):
    torch.manual_seed(0)  # the layers initialise themselves from torch's global generator
    layer = LAYERS[name](d, d_out).double()
    if name.startswith("pyg"):
        return layer, edge_index
    return layer, graphs.operator(layer.operator, edge_index, n, layout, FLOAT64)


@pytest.fixture(autouse=True)
def keep_the_global_generator():
    with torch.random.fork_rng(devices=[]):
        yield


def readers_own(h, S):
    """A plain function, not a module: what a reader may write in a cell."""
    return torch.sin(S @ h) * h.sum(1, keepdim=True)


# ---------------------------------------------------------------- Lemma 3.1

def closed_form(S, W):
    """{|λ_i| √μ_j}: n·min(d, d') values, descending, with numpy alone.

    ``W Wᵀ`` has d eigenvalues. For d > d' at least d - d' of them are zero and belong to the kernel of J (n d columns,
    n d' rows), which has no singular value of its own; for d < d' the n (d' - d) zero eigenvalues of J Jᵀ do not show.
    """
    lambdas = np.linalg.eigvalsh(S)
    mus = np.clip(np.linalg.eigvalsh(W @ W.T), 0, None)
    kept = np.sort(mus)[::-1][:min(W.shape)]
    return np.sort(np.outer(np.abs(lambdas), np.sqrt(kept)).ravel())[::-1]


@pytest.mark.parametrize("widths", WIDTHS, ids=lambda w: f"{w[0]}x{w[1]}")
def test_lemma_3_1_kronecker_spectrum(graph, widths):
    """On 12 graphs and 5 shapes of W: closed form = dense singular values = Kronecker way, to 1e-10 of the largest."""
    edge_index, n = graph
    d, d_out = widths
    layer, h = linear_gcn(d, d_out), random(n, d)
    S, W = graphs.normalized_adjacency(edge_index, n, dtype=FLOAT64), layer.weight.detach()
    J = jacobian.layer_jacobian(layer, h, S)
    assert J.shape == (n * d_out, n * d)
    assert np.abs(J.numpy() - np.kron(W.T.numpy(), S.numpy())).max() <= 1e-15
    expected = closed_form(S.numpy(), W.numpy())
    dense = torch.linalg.svdvals(J).numpy()
    assert dense.shape == expected.shape == (n * min(d, d_out),)
    assert np.abs(dense - expected).max() <= 1e-10 * expected[0]
    for method in jacobian.METHODS:
        for layout in graphs.LAYOUTS:
            operator = graphs.normalized_adjacency(edge_index, n, layout, FLOAT64)
            found = jacobian.singular_values(layer, h, operator, method=method).numpy()
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= 1e-10 * expected[0]


@pytest.mark.parametrize("widths", [(5, 3), (3, 5)], ids=["wide_to_narrow", "narrow_to_wide"])
def test_lemma_3_1_zero_singular_values(widths, grid_graph):
    """JᵀJ has n max(0, d - d') zero eigenvalues more than J has singular values; JJᵀ has n max(0, d' - d)."""
    d, d_out = widths
    n = grid_graph[1]
    layer, S = linear_gcn(d, d_out), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64) + torch.eye(n)  # no λ_i = 0
    J = jacobian.layer_jacobian(layer, random(n, d), S)
    for gram, zeros in ((J.T @ J, n * max(0, d - d_out)), (J @ J.T, n * max(0, d_out - d))):
        assert int((torch.linalg.eigvalsh(gram) < 1e-10).sum()) == zeros


def test_lemma_3_1_holds_with_a_bias_and_at_any_point(grid_graph):
    """The Jacobian of an affine map does not know the bias, nor where it is taken."""
    S = graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    layer = GCN(3, 4, None, bias=True).double()
    layer.bias.data = random(4, seed=5)
    first, second = (jacobian.layer_jacobian(layer, random(12, 3, seed=s), S) for s in (1, 2))
    assert torch.equal(first, second)
    torch.testing.assert_close(jacobian.singular_values(layer, random(12, 3), S), torch.linalg.svdvals(first))


@pytest.fixture(scope="module")
def cora_eigen(cora_component):
    edge_index, n = cora_component
    S = graphs.normalized_adjacency(edge_index, n, "sparse", FLOAT64)
    lambdas, U = np.linalg.eigh(S.to_dense().numpy())
    return S, torch.from_numpy(lambdas), torch.from_numpy(U)


@pytest.mark.parametrize("widths", [(3, 3), (2, 4), (4, 2)], ids=lambda w: f"{w[0]}x{w[1]}")
def test_lemma_3_1_on_cora_matrix_free(cora_eigen, widths):
    """Every singular value of the Jacobian on Cora's largest component, through products with J alone.

    Let ``u_i, λ_i`` be numpy's eigenpairs of Â and ``W = P diag(s) Qᵀ``. The lemma claims that J maps the orthonormal
    basis ``x_ij = vec(u_i p_jᵀ)`` to ``|λ_i| s_j`` times the orthonormal ``y_ij = sign(λ_i) vec(u_i q_jᵀ)``, and to zero
    for the d - d' last p_j of a W with d > d'. All n d images come from ``JacobianProduct.jvp``, which knows nothing of
    this structure. With R the matrix of what is left over, Weyl's inequality for singular values says that each of
    J's differs from the closed form's by at most ``‖R‖₂ ≤ ‖R‖_F``, up to the defect of orthonormality, which is measured.
    """
    S, lambdas, U = cora_eigen
    d, d_out = widths
    n, layer = len(S), linear_gcn(d, d_out)
    P, s, Qt = torch.linalg.svd(layer.weight.detach(), full_matrices=True)
    s = torch.cat([s, torch.zeros(d - len(s), dtype=FLOAT64)])
    product = jacobian.JacobianProduct(layer, random(n, d), S)
    q = torch.cat([Qt, torch.zeros(max(0, d - d_out), d_out, dtype=FLOAT64)])  # rows q_j; zero where s_j = 0
    rows = U.T.contiguous()                                                    # rows u_i
    signed = torch.sign(lambdas)[:, None] * rows
    squared_rest, largest = 0.0, float(lambdas.abs().max() * s.max())
    for j in range(d):
        for block in torch.arange(n).split(250):
            images = torch.stack([product.jvp(torch.outer(rows[i], P[:, j])) for i in block])
            values = lambdas[block].abs() * s[j]
            images -= (values[:, None] * signed[block])[:, :, None] * q[j]
            squared_rest += float(images.square().sum())
    defect = max(float(torch.linalg.matrix_norm(V.T @ V - torch.eye(len(V), dtype=FLOAT64))) for V in (U, P, Qt.T))
    assert squared_rest ** 0.5 + defect * largest <= 1e-10 * largest

    expected = torch.sort(torch.outer(lambdas.abs(), s[:min(d, d_out)]).flatten(), descending=True).values
    found = jacobian.singular_values(layer, random(n, d), S, method="kronecker")
    assert found.shape == (n * min(d, d_out),)
    assert (found - expected).abs().max() <= 1e-10 * largest
    assert jacobian.spectral_norm(layer, random(n, d), S, tol=1e-12) == pytest.approx(largest, rel=1e-10)


def test_cora_matrix_free_gram_equals_the_kronecker_application(cora_eigen):
    """JᵀJ x = vec(Â (Â X W) Wᵀ) for random X, to 1e-12."""
    S, _, _ = cora_eigen
    layer = linear_gcn(16, 8)
    W = layer.weight.detach()
    gram, size = jacobian.JacobianProduct(layer, random(len(S), 16), S).smaller_gram()
    assert size == len(S) * 8  # d > d': J Jᵀ is the smaller
    for seed in range(5):
        u = random(len(S), 8, seed=seed)
        expected = (S @ (S @ (u @ W.T))) @ W
        torch.testing.assert_close(gram(u.reshape(-1)).view_as(u), expected, rtol=0, atol=1e-12)


ALL_OF_CORA = r"""
import json, pathlib, re, resource, sys, time
import torch
from gnnssm_lite import graphs, jacobian, squashing
from gnnssm_lite.datasets import load_cora
from gnnssm_lite.models import GCN

data = load_cora(split="random")
layer = GCN(64, 64, None).double()
S = graphs.normalized_adjacency(data.edge_index, data.num_nodes, "sparse", torch.float64)
h = torch.ones(data.num_nodes, 64, dtype=torch.float64)
start = time.process_time()
values = jacobian.singular_values(layer, h, S)
seconds = time.process_time() - start
W = layer.weight.detach()
status = pathlib.Path("/proc/self/status")
if status.exists():  # Linux: ru_maxrss would be that of the process which started this one, if it was the larger
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2 ** 20
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2 ** 30 if sys.platform == "darwin" else 2 ** 20)
print(json.dumps({"count": len(values), "seconds": seconds, "gigabytes": peak,
                  "squares": float((values ** 2).sum() / ((S.values() ** 2).sum() * (W ** 2).sum())),
                  "largest": float(values[0] / torch.linalg.matrix_norm(W, 2))}))
"""


def test_all_singular_values_on_cora_within_ten_seconds_and_a_gigabyte():
    """173,312 values in a process of its own: their number, Σ σ² = ‖Â‖_F² ‖W‖_F², the largest = ‖W‖₂ since λ_1 = 1.

    The time is the processor's, on one thread: a busy machine does not change it.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", ALL_OF_CORA], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["count"] == 2708 * 64 == 173_312
    assert found["squares"] == pytest.approx(1, rel=1e-12) and found["largest"] == pytest.approx(1, rel=1e-12)
    assert found["seconds"] <= 10 and found["gigabytes"] <= 1


# ---------------------------------------------------------------- who may take the Kronecker way

def dense_and_auto(layer, h, *graph):
    return jacobian.singular_values(layer, h, *graph, method="dense"), jacobian.singular_values(layer, h, *graph)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"normalize": False}, {"add_self_loops": False},
                                     {"improved": True}, {"flow": "target_to_source"}], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("directed", [False, True])
def test_torch_geometric_gcn_takes_the_kronecker_way(options, weighted, directed, grid_graph):
    """With every option, weights and one-way edges: the operator is the convolution's own."""
    edge_index, n = grid_graph
    edge_index = edge_index[:, ::3] if directed else edge_index
    weight = [0.5 + (edge_index[0] + edge_index[1]).double() / n] if weighted else []
    conv = GCNConv(4, 3, **options).double()
    dense, auto = dense_and_auto(conv, random(n, 4), edge_index, *weight)
    assert jacobian.kronecker_terms(conv) is not None
    assert (auto - dense).abs().max() <= 1e-10 * dense.max()


@pytest.mark.parametrize("layer", [GraphSAGE(3, 4, None), GIN(3, 4, None, mlp=nn.Linear(3, 4), epsilon=0.5),
                                   GNNSSM(GraphSAGE(3, 3, None), state_matrix(3)), GNNSSM(None, state_matrix(3))],
                         ids=["sage", "gin", "ssm_sage", "ssm_alone"])
def test_other_linear_layers(layer, grid_graph):
    layer = layer.double()
    for build in (graphs.normalized_adjacency, graphs.mean_adjacency):
        dense, auto = dense_and_auto(layer, random(12, 3), build(*grid_graph, dtype=FLOAT64))
        assert (auto - dense).abs().max() <= 1e-10 * dense.max()


def test_layers_without_a_graph():
    for layer in (nn.Linear(3, 5).double(), GNNSSM(nn.Linear(3, 3), state_matrix(3)).double()):
        dense, auto = dense_and_auto(layer, random(6, 3))
        assert jacobian.kronecker_terms(layer) is not None
        torch.testing.assert_close(auto, dense, rtol=1e-10, atol=1e-12)


class TanhGCNConv(GCNConv):
    def forward(self, h, edge_index):
        return torch.tanh(super().forward(h, edge_index))


class ResidualGCN(GCN):
    def forward(self, h, S):
        return h + super().forward(h, S)


class ReluLinear(nn.Linear):
    def forward(self, h):
        return super().forward(h).relu()


@pytest.mark.parametrize("layer", [TanhGCNConv(3, 3), ResidualGCN(3, 3, None), ReluLinear(3, 3)],
                         ids=lambda layer: type(layer).__name__)
def test_a_subclass_with_its_own_forward_is_not_taken_for_its_parent(layer, grid_graph):
    edge_index, n = grid_graph
    layer = layer.double()
    operand = {TanhGCNConv: (edge_index,), ReluLinear: ()}.get(type(layer))
    if operand is None:
        operand = (graphs.normalized_adjacency(edge_index, n, dtype=FLOAT64),)
    assert jacobian.kronecker_terms(layer) is None
    dense, auto = dense_and_auto(layer, random(n, 3), *operand)
    assert torch.equal(auto, dense)


class TanhLinear(nn.Linear):
    def forward(self, h):
        return torch.tanh(super().forward(h))


def hooked(layer, register=nn.Module.register_forward_hook):
    register(layer, (lambda *_: 0.1 * _[-1]) if register is not nn.Module.register_forward_pre_hook
             else lambda _, inputs: (inputs[0].tanh(), *inputs[1:]))
    return layer


def hooked_inside():
    layer = GCNConv(3, 3)
    hooked(layer.lin)
    return layer


def replaced_forward():
    layer = GCN(3, 3, None)
    original = layer.forward
    layer.forward = lambda h, S: original(h, S).tanh()
    return layer


ALTERED = {
    "max": lambda: GCNConv(3, 3, aggr="max"), "mean": lambda: GCNConv(3, 3, aggr="mean"),
    "hook": lambda: hooked(GCNConv(3, 3)), "hook_inside": hooked_inside, "forward": replaced_forward,
    "pre_hook": lambda: hooked(GCNConv(3, 3), nn.Module.register_forward_pre_hook),
    "message_hook": lambda: hooked(GCNConv(3, 3), GCNConv.register_message_forward_hook),
    "aggregate_hook": lambda: hooked(GCNConv(3, 3), GCNConv.register_aggregate_forward_hook),
    "gin": lambda: GIN(3, 3, mlp=TanhLinear(3, 3)), "own_hook": lambda: hooked(GCN(3, 3, None)),
}


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: GNNSSM(layer, state_matrix(3))], ids=["alone", "ssm"])
@pytest.mark.parametrize("name", ALTERED)
def test_a_layer_that_computes_something_else_does_not_take_the_kronecker_way(name, wrap, grid_graph):
    """Other aggregations, hooks, a forward or an MLP of one's own: the values are those of the layer as it runs."""
    edge_index, n = grid_graph
    layer = wrap(ALTERED[name]()).double()
    operand = edge_index if any(type(module) is GCNConv for module in layer.modules()) else \
        graphs.adjacency(edge_index, n, dtype=FLOAT64)
    assert jacobian.kronecker_terms(layer) is None
    dense, auto = dense_and_auto(layer, random(n, 3), operand)
    assert torch.equal(auto, dense)
    with pytest.raises(ValueError, match="method 'kronecker' needs a linear layer"):
        jacobian.singular_values(layer, random(n, 3), operand, method="kronecker")


def test_a_cached_graph_is_the_one_that_counts(grid_graph):
    """A GCNConv with cached=True looks at its first graph only, and so does its Jacobian, whatever graph it is given."""
    edge_index, n = grid_graph
    conv = GCNConv(3, 4, cached=True).double()
    first, _ = dense_and_auto(conv, random(n, 3), edge_index)
    for other in (edge_index, graphs.ring(n)):
        dense, auto = dense_and_auto(conv, random(n, 3), other)
        assert torch.equal(dense, first)
        assert (auto - dense).abs().max() <= 1e-10 * dense.max()


@pytest.mark.parametrize("dtype", [torch.float32, FLOAT64], ids=str)
def test_a_layer_that_misstates_its_terms_is_found_out_and_no_other(dtype, graph):
    """One difference tells; layers that are right pass it at large, small and constant features, with large biases."""
    class Misstated(GCN):
        def forward(self, h, S):
            return super().forward(h, S) * 1.1

        def kronecker_terms(self):
            return {1: self.weight}

    edge_index, n = graph
    torch.manual_seed(0)
    S = graphs.normalized_adjacency(edge_index, n, dtype=dtype)
    points = [random(n, 3, dtype=dtype) * size for size in (1e-12, 1, 1e12)] + [torch.full((n, 3), v, dtype=dtype) for v in (0., 1e4)]
    for h in points:
        wrong, right = Misstated(3, 4, None).to(dtype), GCN(3, 4, None, bias=True).to(dtype)
        assert jacobian._kronecker_parts(wrong, h, (S,)) is None
        right.bias.data += 1e5
        for layer, operand in ((right, S), (GCNConv(3, 4).to(dtype), edge_index), (GraphSAGE(3, 4, None).to(dtype), S),
                               (right, graphs.laplacian(edge_index, n, dtype=dtype))):
            assert jacobian._kronecker_parts(layer, h, (operand,)) is not None


def test_a_readers_linear_layer_takes_part_by_its_kronecker_terms(grid_graph):
    class TwoHops(nn.Module):
        """H' = S² H W: a power that no layer of the package has."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(random(3, 4))

        def forward(self, h, S):
            return S @ (S @ h) @ self.weight

        def kronecker_terms(self):
            return {2: self.weight}

    dense, auto = dense_and_auto(TwoHops(), random(12, 3), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64))
    assert jacobian.kronecker_terms(TwoHops()) is not None
    assert (auto - dense).abs().max() <= 1e-10 * dense.max()


def test_a_readers_linear_layer_on_an_edge_index_takes_the_dense_way(grid_graph):
    class SumOfNeighbours(nn.Module):
        """H' = A H W from edges: no operator S to be had."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(random(3, 4))

        def forward(self, h, edge_index):
            return torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]]) @ self.weight

        def kronecker_terms(self):
            return {1: self.weight}

    edge_index, n = grid_graph
    dense, auto = dense_and_auto(SumOfNeighbours(), random(n, 3), edge_index)
    assert torch.equal(auto, dense)
    A = graphs.adjacency(edge_index, n, dtype=FLOAT64)
    torch.testing.assert_close(dense, jacobian.singular_values(lambda h: A @ h @ SumOfNeighbours().weight, random(n, 3)))
    with pytest.raises(ValueError, match="method 'kronecker' needs .* its S"):
        jacobian.singular_values(SumOfNeighbours(), random(n, 3), edge_index, method="kronecker")


@pytest.mark.parametrize("way", [jacobian.singular_values, jacobian.eigenvalues, jacobian.layer_jacobian,
                                 jacobian.spectral_norm], ids=lambda way: way.__name__)
def test_lazy_layers_come_by_their_widths(way, grid_graph):
    edge_index, n = grid_graph
    conv, h = GCNConv(-1, 4), random(n, 4, dtype=torch.float32)
    first = way(conv, h, edge_index)
    assert torch.allclose(torch.as_tensor(first), torch.as_tensor(way(conv, h, edge_index)))


# ---------------------------------------------------------------- dense

def finite_differences(layer, h, *graph, step=1e-6):
    """Column by column with central differences, vec stacking columns."""
    columns = []
    for j in range(h.shape[1]):
        for i in range(h.shape[0]):
            e = torch.zeros_like(h)
            e[i, j] = step
            with torch.no_grad():
                columns.append(((layer(h + e, *graph) - layer(h - e, *graph)) / (2 * step)).T.reshape(-1))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_dense_jacobian_equals_finite_differences(name, grid_graph):
    edge_index, n = grid_graph
    layer, operand = layer_and_graph(name, 3, 4, edge_index, n)
    h = random(n, 3)
    J = jacobian.layer_jacobian(layer, h, operand)
    assert J.shape == (n * 4, n * 3) and not J.requires_grad
    torch.testing.assert_close(J, finite_differences(layer, h, operand), rtol=1e-6, atol=1e-8)


def test_dense_jacobian_of_a_readers_function_and_of_a_sparse_operator(grid_graph):
    h, (dense, sparse) = random(12, 3), (graphs.normalized_adjacency(*grid_graph, layout, FLOAT64) for layout in graphs.LAYOUTS)
    J = jacobian.layer_jacobian(readers_own, h, dense)
    torch.testing.assert_close(J, finite_differences(readers_own, h, dense), rtol=1e-6, atol=1e-8)
    assert torch.equal(jacobian.layer_jacobian(readers_own, h, sparse), J)


SPARSE_WAYS = {
    "alone": lambda conv: conv, "ssm": lambda conv: GNNSSM(conv, state_matrix(4, dtype=FLOAT64)),
    "composed": lambda conv: jacobian.compose([conv, conv]),
    "function": lambda conv: lambda h, A: conv(h, A).tanh(),
}


@pytest.mark.parametrize("way", SPARSE_WAYS)
@pytest.mark.parametrize("convolution", [GCNConv, SAGEConv])
def test_torch_geometric_layers_take_a_sparse_adjacency(convolution, way, grid_graph):
    """torch-geometric reads a sparse matrix as a graph, and a dense one not at all: the Jacobian is that of edge_index."""
    edge_index, n = grid_graph
    torch.manual_seed(0)
    layer, h = SPARSE_WAYS[way](convolution(4, 4).double()), random(n, 4)
    A = graphs.adjacency(edge_index, n, "sparse", FLOAT64)
    J = jacobian.layer_jacobian(layer, h, edge_index)
    torch.testing.assert_close(jacobian.layer_jacobian(layer, h, A), J, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(jacobian.product_jacobian([layer], h, A), J, rtol=1e-10, atol=1e-14)
    values = torch.linalg.svdvals(J)
    torch.testing.assert_close(jacobian.singular_values(layer, h, A), values, rtol=1e-10, atol=1e-12)
    if convolution is GCNConv:  # torch cannot differentiate the sparse mean of SAGEConv twice
        assert jacobian.spectral_norm(layer, h, A) == pytest.approx(float(values[0]), rel=1e-6)


class Cube(torch.autograd.Function):
    """x³ without a batching rule, so that torch.func cannot map it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x ** 3

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return 3 * x ** 2 * grad


def test_dense_jacobian_without_a_batching_rule_is_the_same(grid_graph):
    h, S = random(12, 3), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    def by_function(h, S):
        return Cube.apply(S @ h)

    with pytest.raises(RuntimeError):
        torch.func.jacrev(lambda x: by_function(x, S))(h)
    expected = jacobian.layer_jacobian(lambda h, S: (S @ h) ** 3, h, S)
    torch.testing.assert_close(jacobian.layer_jacobian(by_function, h, S), expected)
    with torch.no_grad():
        torch.testing.assert_close(jacobian.layer_jacobian(by_function, h, S), expected)


def test_rows_that_do_not_depend_on_h_are_zero():
    def partly(h):
        return torch.stack([Cube.apply(h[:, 0]), torch.ones_like(h[:, 0])], 1)

    J = jacobian.layer_jacobian(partly, random(4, 3))
    assert (J[:4].diagonal() > 0).all() and (J[4:] == 0).all() and (J[:, 4:] == 0).all()
    assert (jacobian.layer_jacobian(lambda h: torch.ones_like(h), random(4, 3)) == 0).all()


def test_callers_tensors_and_gradients_are_left_alone(grid_graph):
    h, S = random(12, 3).requires_grad_(True), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    layer, before = GCN(3, 3, "tanh").double(), h.detach().clone()
    jacobian.layer_jacobian(layer, h, S)
    jacobian.spectral_norm(layer, h, S)
    jacobian.spectral_density(layer, h, S, num_probes=1, num_steps=5)
    jacobian.gradient_norms([layer, layer], h, S)
    assert h.grad is None and layer.weight.grad is None and torch.equal(h, before)


# ---------------------------------------------------------------- products of layers

def test_eq_6_product_jacobian_is_the_product_of_matrices(grid_graph):
    """J = J_K ... J_1, each factor at the features that reach it, widths changing on the way."""
    S = graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    layers = [GCN(3, 5, "tanh").double(), GCN(5, 2, "tanh").double(), readers_own]
    h = random(12, 3)
    state, expected = h, torch.eye(36, dtype=FLOAT64)
    for layer in layers:
        expected = jacobian.layer_jacobian(layer, state, S) @ expected
        state = layer(state, S).detach()
    torch.testing.assert_close(jacobian.product_jacobian(layers, h, S), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.GELU(), nn.Dropout(), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4),
                                    nn.Linear(4, 4), nn.Identity()], ids=lambda module: type(module).__name__)
def test_torchs_own_modules_stand_in_a_stack_without_the_graph(module, grid_graph):
    """As if wrapped by hand, in products and in gradients; a subclass of them is called with the graph."""
    edge_index, n = grid_graph
    torch.manual_seed(0)
    first, module, last, h = GCNConv(4, 4).double(), module.double().eval(), GCNConv(4, 2).double(), random(n, 4)
    stack, by_hand = [first, module, last], [first, lambda h, _: module(h), last]
    J = jacobian.product_jacobian(by_hand, h, edge_index)
    torch.testing.assert_close(jacobian.product_jacobian(stack, h, edge_index), J)
    torch.testing.assert_close(jacobian.gradient_norms(stack, h, edge_index), jacobian.gradient_norms(by_hand, h, edge_index))

    class WithGraph(nn.ReLU):
        def forward(self, h, edge_index):
            return super().forward(h) * edge_index.shape[1]

    scaled = jacobian.product_jacobian([first, WithGraph()], h, edge_index)
    torch.testing.assert_close(scaled, jacobian.product_jacobian([first, nn.ReLU()], h, edge_index) * edge_index.shape[1])


def test_eq_5_gradient_norms_equal_dense_products(grid_graph):
    """‖g_k‖ = ‖J_{k+1}ᵀ ... J_Kᵀ g‖ for the same random g."""
    S = graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    layers, h = [GCN(3, 3, "tanh").double() for _ in range(5)], random(12, 3)
    found = jacobian.gradient_norms(layers, h, S, seed=4)
    g = torch.randn(12, 3, generator=jacobian.probe_generator(4, h.device), dtype=FLOAT64).T.reshape(-1)
    g, states = g / g.norm(), [h]
    for layer in layers:
        states.append(layer(states[-1], S).detach())
    expected = [g.norm()]
    for layer, state in zip(layers[::-1], states[-2::-1], strict=True):
        g = jacobian.layer_jacobian(layer, state, S).T @ g
        expected.append(g.norm())
    assert found.shape == (6,) and not found.requires_grad
    torch.testing.assert_close(found, torch.stack(expected[::-1]))


@pytest.mark.parametrize("s", [1e-30, 1e-23, 1e20, 1e30])
def test_gradient_norms_in_float32_reach_as_far_as_the_gradients(s, grid_graph):
    S, h = graphs.normalized_adjacency(*grid_graph), random(12, 3, dtype=torch.float32)
    found, plain = (jacobian.gradient_norms([lambda h, S, c=c: c * (S @ h)], h, S) for c in (s, 1.0))
    assert found.dtype == torch.float32
    assert (found.double() / plain).tolist() == pytest.approx([s, 1], rel=1e-5)


def test_gradient_norms_are_zero_behind_a_layer_that_forgets():
    def forget(h):
        return torch.ones_like(h, requires_grad=True) * 2

    assert jacobian.gradient_norms([torch.tanh, forget, torch.tanh], random(4, 2)).tolist()[:2] == [0.0, 0.0]
    constant = jacobian.gradient_norms([torch.tanh, torch.ones_like, torch.tanh], random(4, 2))
    assert constant[:2].tolist() == [0.0, 0.0] and (constant[2:] > 0).all()
    assert jacobian.gradient_norms([torch.ones_like], random(4, 2)).tolist() == [0.0, 1.0]


def test_eigenvalues_of_the_dense_way(grid_graph):
    """By descending modulus, with their sum = trace; refused when the width changes."""
    h, S = random(12, 3), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    layer = GCN(3, 3, "tanh").double()
    J, found = jacobian.layer_jacobian(layer, h, S), jacobian.eigenvalues(layer, h, S)
    assert found.dtype == torch.complex128 and found.shape == (36,)
    torch.testing.assert_close(found.sum(), torch.trace(J).to(found.dtype))
    assert (found[:-1].abs() >= found[1:].abs() - 1e-12).all()
    for activation in (None, "tanh"):
        with pytest.raises(ValueError, match="layer must keep the width for eigenvalues"):
            jacobian.eigenvalues(GCN(3, 2, activation).double(), h, S)


# ---------------------------------------------------------------- matrix-free

@pytest.mark.parametrize("layout", graphs.LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
def test_products_equal_the_dense_jacobian(name, layout, grid_graph):
    """J v and Jᵀ u for every layer, sparse operators included; <u, J v> = <Jᵀ u, v>."""
    edge_index, n = grid_graph
    layer, operand = layer_and_graph(name, 3, 4, edge_index, n, layout)
    h, v, u = random(n, 3), random(n, 3, seed=1), random(n, 4, seed=2)
    J, product = jacobian.layer_jacobian(layer, h, operand), jacobian.JacobianProduct(layer, h, operand)
    assert (product.in_shape, product.out_shape) == ((n, 3), (n, 4))
    torch.testing.assert_close(product.jvp(v).T.reshape(-1), J @ v.T.reshape(-1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(product.vjp(u).T.reshape(-1), J.T @ u.T.reshape(-1), rtol=1e-10, atol=1e-12)
    assert float((u * product.jvp(v)).sum()) == pytest.approx(float((product.vjp(u) * v).sum()), rel=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_spectral_norm_equals_the_largest_singular_value(name, grid_graph):
    edge_index, n = grid_graph
    layer, operand = layer_and_graph(name, 3, 4, edge_index, n, "sparse")
    largest = float(torch.linalg.svdvals(jacobian.layer_jacobian(layer, random(n, 3), operand))[0])
    assert jacobian.spectral_norm(layer, random(n, 3), operand, tol=1e-12) == pytest.approx(largest, rel=1e-10)
    with torch.no_grad():  # a chapter may well stand inside no_grad
        assert jacobian.spectral_norm(layer, random(n, 3), operand) == pytest.approx(largest, rel=1e-6)


def test_spectral_norm_in_float32_on_cora(cora_component):
    edge_index, n = cora_component
    layer = linear_gcn(16, 16)
    exact = float(torch.linalg.matrix_norm(layer.weight.detach(), 2))  # λ_1 = 1
    S = graphs.normalized_adjacency(edge_index, n, "sparse")
    assert jacobian.spectral_norm(layer.float(), random(n, 16, dtype=torch.float32), S, tol=1e-5) == pytest.approx(exact, rel=1e-4)


def test_spectral_norm_of_special_jacobians():
    h = random(6, 2)
    assert jacobian.spectral_norm(lambda h: 0 * h, h) == 0
    assert jacobian.spectral_norm(lambda h: -3 * h, h) == pytest.approx(3, rel=1e-12)
    assert jacobian.spectral_norm(lambda h: h[:, :1] * 2, h, max_steps=1) == pytest.approx(2, rel=1e-12)
    assert jacobian.spectral_norm(torch.tanh, random(1, 1)) == pytest.approx(float(1 - torch.tanh(random(1, 1)) ** 2))


def test_spectral_norm_says_when_it_has_not_converged(cora_component):
    edge_index, n = cora_component
    S = graphs.normalized_adjacency(edge_index, n, "sparse", FLOAT64)
    with pytest.raises(RuntimeError, match="did not reach tol = 1e-12 in max_steps = 7"):
        jacobian.spectral_norm(linear_gcn(4, 4), random(n, 4), S, tol=1e-12, max_steps=7)


@pytest.mark.parametrize("widths", [(3, 5), (5, 3)], ids=["narrow_to_wide", "wide_to_narrow"])
def test_spectral_density_of_rectangular_layers(widths, grid_graph):
    """It counts n min(d, d') values, as dense SVD does, and its mass sits inside their range."""
    edge_index, n = grid_graph
    d, d_out = widths
    layer, S = GCN(d, d_out, "tanh").double(), graphs.normalized_adjacency(edge_index, n, dtype=FLOAT64)
    exact = torch.linalg.svdvals(jacobian.layer_jacobian(layer, random(n, d), S)).numpy() ** 2
    density = jacobian.spectral_density(layer, random(n, d), S, num_probes=20, num_steps=60)
    assert density.count == len(exact) == n * min(d, d_out)
    assert density.weights.sum() == pytest.approx(1, abs=1e-12)
    assert (np.diff(density.nodes) >= 0).all() and (density.nodes >= 0).all()
    assert density.nodes[-1] <= exact[0] * (1 + 1e-10)
    assert density.wasserstein(exact) <= 0.05 * exact[0]  # 36 values: the sampling error is what is left


def test_spectral_density_is_exact_for_one_singular_value(grid_graph):
    """J = 2 I: one node at 4 with all the mass, whatever the probes."""
    density = jacobian.spectral_density(lambda h: 2 * h, random(12, 3), num_probes=3, num_steps=10)
    assert np.allclose(density.nodes, 4) and density.weights.sum() == pytest.approx(1)
    zero = jacobian.spectral_density(lambda h: 0 * h, random(12, 3))
    assert np.allclose(zero.nodes, 0)


SCALES = [(torch.float32, s) for s in (1e-30, 1e-20, 1e-11, 1e10, 1e30)] + [(FLOAT64, s) for s in (1e-140, 1e-85, 1e85, 1e140)]


@pytest.mark.parametrize(("dtype", "s"), SCALES, ids=str)
@pytest.mark.parametrize("d_out", [4, 2])
def test_norm_and_density_scale_with_the_layer(dtype, s, d_out, grid_graph):
    """s f has s times the norm and s² times the squared singular values, whatever s: nothing over- or underflows."""
    S, h, W = graphs.normalized_adjacency(*grid_graph, dtype=dtype), random(12, 4, dtype=dtype), random(4, d_out, dtype=dtype)

    def f(h, S):
        return S @ h @ W

    def scaled(h, S):
        return s * (S @ h @ W)

    eps = torch.finfo(dtype).eps
    assert jacobian.spectral_norm(scaled, h, S) / s == pytest.approx(jacobian.spectral_norm(f, h, S), rel=20 * eps)
    of_f, of_scaled = (jacobian.spectral_density(layer, h, S, num_probes=2) for layer in (f, scaled))
    assert of_scaled.moment(1) / s ** 2 == pytest.approx(of_f.moment(1), rel=20 * eps)


@pytest.mark.parametrize("name", ["pyg_gcn", "gcn"])
def test_the_norm_of_a_deep_stack_in_float32_is_that_of_the_dense_way(name):
    """Forty layers that shrink: ‖J‖₂ far below the rounding of 1, its square below the range of float32."""
    n, layers, graph = KARATE.num_nodes, [], KARATE.edge_index
    for seed in range(40):
        torch.manual_seed(seed)
        layers.append(GCNConv(4, 4) if name == "pyg_gcn" else GCN(4, 4, "tanh"))
        (layers[-1].lin.weight if name == "pyg_gcn" else layers[-1].weight).data *= 0.3
    if name == "gcn":
        graph = graphs.normalized_adjacency(graph, n)
    stack, h = jacobian.compose(layers), random(n, 4, dtype=torch.float32)
    values = torch.linalg.svdvals(jacobian.layer_jacobian(stack, h, graph).double())
    assert 0 < float(values[0]) < 1e-17
    assert jacobian.spectral_norm(stack, h, graph) == pytest.approx(float(values[0]), rel=1e-5)
    density = jacobian.spectral_density(stack, h, graph, num_probes=400, num_steps=10)
    assert density.moment(1) == pytest.approx(float(values.square().mean()), rel=0.3)


def test_a_jacobian_beyond_the_range_of_its_dtype_is_refused_and_not_called_zero():
    h = random(6, 2, dtype=torch.float32)
    for way in (jacobian.spectral_norm, jacobian.spectral_density):
        for layer in (lambda h: 1e-30 * (1e-16 * h), lambda h: 1e-30 * (1e-10 * h)):  # 0 and subnormal products
            with pytest.raises(ValueError, match="layer must have a Jacobian with entries that torch.float32 can hold"):
                way(layer, h)
        with pytest.raises(ValueError, match="layer must have a Jacobian with finite products"):
            way(lambda h: 1e30 * (1e30 * h), h)
        with pytest.raises(ValueError, match="layer must have a Jacobian with finite products"):
            way(lambda h: (h - h).sqrt(), h)  # infinite slope
    with pytest.raises(ValueError, match="squared singular values float64 can hold.*e-20"):
        jacobian.spectral_density(lambda h: 1e-200 * h, h.double())
    assert jacobian.spectral_norm(lambda h: 1e-200 * h, h.double()) == pytest.approx(1e-200, rel=1e-12)


LINEAR_ON_CORA = {"gcn": lambda: linear_gcn(16, 16), "wide_to_narrow": lambda: linear_gcn(16, 8),
                  "ssm": lambda: GNNSSM(linear_gcn(16, 16), state_matrix(16, 0.9, "spread", torch.Generator().manual_seed(0), FLOAT64))}


@pytest.mark.parametrize("name", LINEAR_ON_CORA)
def test_spectral_density_within_one_percent_on_cora(name, cora_component):
    """Wasserstein-1 to all exact values below 1 % of their range; moments within sampling error."""
    edge_index, n = cora_component
    S = graphs.normalized_adjacency(edge_index, n, "sparse", FLOAT64)
    layer, h = LINEAR_ON_CORA[name](), random(n, 16)
    exact = jacobian.singular_values(layer, h, S).numpy() ** 2
    density = jacobian.spectral_density(layer, h, S)
    assert density.count == exact.size
    assert density.wasserstein(exact) <= 0.01 * np.ptp(exact)
    assert density.wasserstein(exact) == pytest.approx(wasserstein_distance(density.nodes, exact, density.weights))
    probes = 6
    for order in (1, 2, 3):
        # Var[zᵀ f(G) z / |z|²] is about 2 Var[f(γ)] / N for one Gaussian probe z of length N.
        error = (2 * np.var(exact ** order) / exact.size / probes) ** 0.5
        assert abs(density.moment(order) - np.mean(exact ** order)) <= 4 * error
    grid = np.linspace(0, exact.max() * 1.01, 200)
    empirical = np.searchsorted(np.sort(exact), grid, side="right") / exact.size
    assert np.abs(density.cdf(grid) - empirical).mean() <= 0.01
    assert density.cdf(np.array([-1.0, exact.max() * 2])).tolist() == pytest.approx([0, 1])
    assert density.histogram(np.linspace(0, exact.max() * 1.01, 20)) @ np.full(19, exact.max() * 1.01 / 19) == pytest.approx(1)


def test_spectral_density_moments_of_a_nonlinear_layer(grid_graph):
    """First moment ‖J‖_F² / count over many probes, for a function of a reader's own."""
    h, S = random(12, 3), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    J = jacobian.layer_jacobian(readers_own, h, S)
    squared = torch.linalg.svdvals(J).numpy() ** 2
    density = jacobian.spectral_density(readers_own, h, S, num_probes=200, num_steps=36)
    for order in (1, 2):
        error = (2 * np.var(squared ** order) / squared.size / 200) ** 0.5
        assert abs(density.moment(order) - np.mean(squared ** order)) <= 4 * error
    assert density.moment(1) == pytest.approx(float((J ** 2).sum()) / 36, rel=0.1)
    assert np.allclose(density.singular_values ** 2, density.nodes)


def test_spectral_density_in_float32_is_within_one_percent_too(cora_component):
    """Rounding in single precision costs nothing: the reorthogonalised process stays stable."""
    edge_index, n = cora_component
    layer, h = linear_gcn(16, 16).float(), random(n, 16, dtype=torch.float32)
    S = graphs.normalized_adjacency(edge_index, n, "sparse")
    exact = jacobian.singular_values(layer, h, S).numpy() ** 2
    density = jacobian.spectral_density(layer, h, S)
    assert density.wasserstein(exact) <= 0.01 * np.ptp(exact)
    assert density.nodes[-1] <= exact.max() * (1 + 1e-5)


def test_random_numbers_come_from_the_seed_alone(grid_graph):
    h, S = random(12, 3), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    before = torch.get_rng_state()
    first, second, other = (jacobian.spectral_density(readers_own, h, S, num_probes=1, num_steps=8, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.nodes, second.nodes) and not np.array_equal(first.nodes, other.nodes)
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- devices

PACKAGE = Path(gnnssm_lite.__file__).parent
FACTORIES = {"zeros", "ones", "empty", "full", "eye", "arange", "linspace", "rand", "randn", "randint", "tensor", "randperm"}
ON_CPU = {  # functions that take no tensor, or that compute on the CPU on purpose and say so
    "graphs": {"_from_networkx", "path", "ring", "complete", "star", "grid", "binary_tree"},
    "jacobian": {"_tridiagonal"},
    "convolutions": {"__init__"},
    "recurrence": {"state_matrix", "haar_orthogonal", "_rotations"},
}


@pytest.mark.parametrize("module", ["graphs.py", "jacobian.py", "models/convolutions.py", "models/recurrence.py"])
def test_tensors_are_made_on_the_device_of_the_inputs(module):
    """Each call of a torch factory names a device, and each tensor from numpy is moved to one."""
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        if function.name in ON_CPU.get(Path(module).stem, ()):
            continue
        moved = {id(node.func.value) for node in ast.walk(function) if isinstance(node, ast.Call)
                 and isinstance(node.func, ast.Attribute) and node.func.attr == "to"}
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            where = f"{module}, line {call.lineno}, {function.name}"
            if name.removeprefix("torch.") in FACTORIES and name.startswith("torch."):
                assert any(keyword.arg == "device" for keyword in call.keywords), where
            if name == "torch.from_numpy":
                assert id(call) in moved, where


def test_only_the_device_module_names_an_accelerator():
    named = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))
             if "cuda" in path.read_text(encoding="utf-8").lower()]
    assert named == ["device.py"]


def test_dense_and_product_jacobians_follow_the_device_of_h(monkeypatch):
    """On the meta device, where values cannot be looked at: no tensor of another device gets in."""
    monkeypatch.setattr(jacobian, "check_finite", lambda name, value: value)
    h, S = torch.empty(7, 4, device="meta"), torch.empty(7, 7, device="meta")
    for make in (GCN, GAT, GraphSAGE, GIN, GatedGCN):
        layer = make(4, 6).to("meta")
        J = jacobian.layer_jacobian(layer, h, S)
        assert J.device.type == "meta" and J.shape == (42, 28)
        product = jacobian.JacobianProduct(layer, h, S)
        assert product.jvp(h).device.type == product.vjp(product.jvp(h)).device.type == "meta"
    layers = [GNNSSM(GCN(4, 4, "tanh"), state_matrix(4)).to("meta") for _ in range(2)]
    assert jacobian.product_jacobian(layers, h, S).device.type == "meta"


@pytest.mark.parametrize("seed", range(3))
def test_probes_are_independent_of_features_drawn_with_the_same_seed(seed):
    """For h' = h³ the Jacobian is diag(3h²), with mean squared singular value 9 E[h⁴] = 27; along h itself it is 135."""
    h = torch.randn(2000, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    density = jacobian.spectral_density(lambda h: h ** 3, h, seed=seed, num_probes=4, num_steps=20)
    assert density.moment(1) == pytest.approx(float((9 * h ** 4).mean()), rel=0.2)


# ---------------------------------------------------------------- what the paper says in prose (chapters 2 and 3)

def near_isometry(d, spread, seed):
    """A (d, d) matrix with singular values evenly spaced in [1 - spread, 1 + spread] and random directions."""
    left, right = (haar_orthogonal(d, torch.Generator().manual_seed(seed + i)) for i in (0, 1))
    return left @ torch.diag(torch.linspace(1 - spread, 1 + spread, d, dtype=FLOAT64)) @ right


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.2])
def test_a_product_of_near_isometries_keeps_every_gradient_between_two_powers(spread):
    """Proposition 2.A: a^K |g| <= |J_1ᵀ ... J_Kᵀ g| <= b^K |g|; by the product matrix and by backpropagation."""
    d, K = 6, 12
    matrices = [near_isometry(d, spread, 2 * k) for k in range(K)]
    layers = [lambda h, W=W: h @ W for W in matrices]
    h = random(1, d)
    values = torch.linalg.svdvals(jacobian.product_jacobian(layers, h))
    low, high = (1 - spread) ** K, (1 + spread) ** K
    assert low * (1 - 1e-9) <= float(values.min()) and float(values.max()) <= high * (1 + 1e-9)
    for seed in range(20):
        norms = jacobian.gradient_norms(layers, h, seed=seed)
        assert low * (1 - 1e-9) <= float(norms[0] / norms[-1]) <= high * (1 + 1e-9)
    assert spread or torch.allclose(values, torch.ones_like(values), rtol=0, atol=1e-12)


def test_both_bounds_are_attained_so_near_means_nearer_than_one_over_the_depth():
    """Equal layers diag(1 - δ, 1 + δ): at δ = 1/K the gradients end near 1/e and e, not near 1."""
    for K in (10, 1000):
        W = torch.diag(torch.tensor([1 - 1 / K, 1 + 1 / K], dtype=FLOAT64))
        values = torch.linalg.svdvals(torch.linalg.matrix_power(W, K))
        assert float(values[0]) == pytest.approx((1 + 1 / K) ** K, rel=1e-9) and float(values[0]) > 2.5
        assert float(values[1]) == pytest.approx((1 - 1 / K) ** K, rel=1e-9) and float(values[1]) < 0.37


def test_eigenvalues_near_one_do_not_keep_gradients():
    shear = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=FLOAT64)
    product = torch.eye(2, dtype=FLOAT64)
    for k in range(10):
        product = (shear.T if k % 2 else shear) @ product
    assert torch.equal(torch.linalg.eigvals(shear).real, torch.ones(2, dtype=FLOAT64))
    assert float(torch.linalg.matrix_norm(product, 2)) == pytest.approx((1 + 2 ** 0.5) ** 10, rel=1e-9)


def graph_and_feed_forward(weights, activation, seed=0):
    """Singular values of the product Jacobians of a GCN and of the MLP with its weights, at the same features."""
    S = graphs.normalized_adjacency(KARATE.edge_index, KARATE.num_nodes, dtype=FLOAT64)
    h = random(KARATE.num_nodes, weights[0].shape[0], seed=seed)
    found = []
    for operator in (S, torch.eye(len(S), dtype=FLOAT64)):
        layers = [lambda h, W=W, operator=operator: activation(operator @ h @ W) for W in weights]
        found.append(torch.linalg.svdvals(jacobian.product_jacobian(layers, h)))
    return *found, graphs.spectrum(S).abs()


@pytest.mark.parametrize("activation", [lambda z: z, torch.tanh], ids=["linear", "tanh"])
def test_most_singular_values_of_a_gcn_vanish_sooner_than_those_of_a_feed_forward_network(activation):
    """Median and mean square, after 1 to 6 layers with the same Gaussian weights."""
    weights = [state_matrix(4, 1.0, "gaussian", torch.Generator().manual_seed(k), FLOAT64) for k in range(6)]
    medians = []
    for K in range(1, 7):
        graph, plain, _ = graph_and_feed_forward(weights[:K], activation)
        medians.append(float(graph.median() / plain.median()))
        assert graph.median() < plain.median() and graph.square().mean() < plain.square().mean()
    assert medians[-1] < 0.01 < medians[0]
    assert all(later < earlier for earlier, later in zip(medians, medians[1:], strict=False))


def test_the_largest_singular_value_of_a_linear_gcn_does_not_vanish_sooner():
    """The norm of W₁ ... W_K times that of Âᴷ, which is 1: as without the graph."""
    weights = [state_matrix(4, 1.0, "gaussian", torch.Generator().manual_seed(k), FLOAT64) for k in range(6)]
    for K in (1, 3, 6):
        graph, plain, _ = graph_and_feed_forward(weights[:K], lambda z: z)
        assert float(graph.max()) == pytest.approx(float(plain.max()), rel=1e-9)
        assert float(graph.max()) == pytest.approx(
            float(torch.linalg.matrix_norm(torch.linalg.multi_dot(weights[:K]) if K > 1 else weights[0], 2)), rel=1e-9)


def test_orthogonal_weights_with_tanh_are_not_enough_for_a_gcn():
    """Small features: a feed-forward network is near isometry at any depth, a GCN's singular values are those of Âᴷ."""
    d, K = 4, 8
    weights = [haar_orthogonal(d, torch.Generator().manual_seed(k)) for k in range(K)]
    graph, plain, lam = graph_and_feed_forward(weights, lambda z: torch.tanh(1e-4 * z) / 1e-4)  # tanh where it is steepest
    assert torch.allclose(plain, torch.ones_like(plain), rtol=0, atol=1e-4)
    expected = (lam ** K).repeat_interleave(d).sort(descending=True).values
    assert torch.allclose(graph, expected, rtol=0, atol=1e-4)
    assert float((graph < 0.1).double().mean()) > 0.8


# ---------------------------------------------------------------- layers of a reader's own, as readers write them

@pytest.fixture
def grid_operator(grid_graph):
    return *grid_graph, graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)


def in_place(conv):
    """``conv(ReLU(h))`` whose ReLU writes into the features that it is given."""
    return lambda h, *graph: conv(torch.relu_(h), *graph)


def test_layers_that_work_in_place_change_neither_the_numbers_nor_the_callers_features(grid_operator):
    edge_index, n, S = grid_operator
    first, last, h = linear_gcn(4, 4), linear_gcn(4, 4, seed=2), random(n, 4)
    kept = h.clone()
    plain, quick = [first, nn.ReLU(), last], [first, nn.ReLU(inplace=True), last]
    torch.testing.assert_close(jacobian.gradient_norms(quick, h, S), jacobian.gradient_norms(plain, h, S), rtol=0, atol=0)
    relu = lambda h, S: first(torch.relu(h), S)  # noqa: E731
    for way in (jacobian.layer_jacobian, jacobian.spectral_norm, jacobian.singular_values):
        torch.testing.assert_close(way(in_place(first), h, S), way(relu, h, S), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(jacobian.product_jacobian([in_place(first), last], h, S),
                               jacobian.product_jacobian([relu, last], h, S), rtol=0, atol=1e-15)
    assert torch.equal(h, kept)


class FunctionalDropout(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, h, S):
        return nn.functional.dropout(self.conv(h, S), 0.5, self.training)


@pytest.mark.parametrize("hidden", [lambda layer: layer, lambda layer: lambda h, S: layer(h, S)], ids=["module", "function"])
def test_a_layer_that_draws_random_numbers_is_warned_of(hidden, grid_operator, recwarn):
    edge_index, n, S = grid_operator
    layer, h = FunctionalDropout(linear_gcn(4, 4)), random(n, 4)
    for way in (jacobian.spectral_norm, jacobian.layer_jacobian, lambda *args: jacobian.gradient_norms([args[0]], *args[1:])):
        with pytest.warns(UserWarning, match="draws random numbers"):
            way(hidden(layer.train()), h, S)
    recwarn.clear()
    jacobian.spectral_norm(hidden(layer.eval()), h, S)
    assert not recwarn.list


def test_containers_and_norms_stand_in_a_stack_without_the_graph(grid_operator):
    edge_index, n, _ = grid_operator
    convs, h = [GCNConv(4, 4).double() for _ in range(2)], random(n, 4)
    norm, block = GraphNorm(4).double(), nn.Sequential(nn.LayerNorm(4), nn.ReLU()).double()
    by_hand = lambda h, e: convs[1](norm(block(convs[0](h, e))), e)  # noqa: E731
    expected = jacobian.layer_jacobian(by_hand, h, edge_index)
    stack = [convs[0], block, norm, convs[1]]
    torch.testing.assert_close(jacobian.product_jacobian(stack, h, edge_index), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(jacobian.layer_jacobian(nn.Sequential(*stack), h, edge_index), expected, rtol=1e-12, atol=1e-14)


class Skips(nn.Sequential):
    def forward(self, h, edge_index):
        for conv in self:
            h = h + conv(h, edge_index)
        return h


def test_a_container_with_a_forward_of_its_own_is_called_and_not_taken_apart(grid_operator):
    edge_index, n, _ = grid_operator
    net, h = Skips(GCNConv(4, 4), GCNConv(4, 4)).double(), random(n, 4)
    expected = jacobian.layer_jacobian(lambda h, e: net(h, e), h, edge_index)
    torch.testing.assert_close(jacobian.layer_jacobian(net, h, edge_index), expected, rtol=0, atol=0)
    assert not torch.allclose(jacobian.product_jacobian(list(net), h, edge_index), expected)


def test_an_error_inside_a_layer_says_which_layer_it_was(grid_operator):
    edge_index, n, S = grid_operator
    layers, h = [linear_gcn(4, 4), linear_gcn(4, 3), linear_gcn(4, 4)], random(n, 4)
    for way in (jacobian.product_jacobian, jacobian.gradient_norms):
        with pytest.raises(ValueError) as caught:
            way(layers, h, S)
        assert "layers[2], a GCN" in caught.value.__notes__[0]


def test_attention_of_torch_has_a_spectral_norm(grid_operator):
    """Torch's fused attention cannot be differentiated twice, which products with the Jacobian need."""
    n = grid_operator[1]
    attention, h = nn.MultiheadAttention(4, 2, batch_first=True).double().eval(), random(n, 4)
    layer = lambda h: attention(h[None], h[None], h[None], need_weights=False)[0][0]  # noqa: E731
    largest = float(torch.linalg.svdvals(jacobian.layer_jacobian(layer, h))[0])
    assert abs(jacobian.spectral_norm(layer, h, tol=1e-9) / largest - 1) < 1e-8


def test_jacobians_can_be_taken_in_inference_mode(grid_operator):
    edge_index, n, S = grid_operator
    layers = [GCN(4, 4, "tanh").double(), linear_gcn(4, 4)]
    ways = {"dense": lambda h: jacobian.product_jacobian(layers, h, S), "gradients": lambda h: jacobian.gradient_norms(layers, h, S),
            "norm": lambda h: torch.tensor(jacobian.spectral_norm(layers[0], h, S)),
            "density": lambda h: torch.from_numpy(jacobian.spectral_density(layers[0], h, S, num_probes=1, num_steps=5).nodes)}
    for name, way in ways.items():
        expected = way(random(n, 4))
        with torch.inference_mode():
            torch.testing.assert_close(way(random(n, 4)), expected, rtol=1e-12, atol=0, msg=name)


@pytest.mark.parametrize("layer", [torch.round, torch.ones_like, lambda h: torch.ones(len(h), 4) @ torch.ones(4, 4, requires_grad=True)],
                         ids=["round", "ones", "parameters"])
def test_a_layer_that_is_constant_around_h_has_the_jacobian_zero_in_every_way(layer):
    h = random(3, 4, dtype=torch.float32)
    assert not jacobian.layer_jacobian(layer, h).any() and jacobian.spectral_norm(layer, h) == 0.0
    assert jacobian.gradient_norms([layer], h).tolist() == [0.0, 1.0]
    density = jacobian.spectral_density(layer, h)
    assert density.moment(1) == 0.0 and density.weights.sum() == pytest.approx(1.0)


def test_the_lanczos_basis_grows_as_it_is_needed(grid_operator, monkeypatch):
    edge_index, n, S = grid_operator
    layer, h = GCN(4, 4, "tanh").double(), random(n, 4)
    expected = jacobian.spectral_norm(layer, h, S)
    monkeypatch.setattr(jacobian, "BASIS_BLOCK", 3)
    assert jacobian.spectral_norm(layer, h, S) == pytest.approx(expected, rel=1e-12)


def test_an_operator_too_large_for_its_eigenvalues_is_refused(grid_operator, monkeypatch):
    edge_index, n, S = grid_operator
    monkeypatch.setattr(jacobian, "MAX_DENSE_ENTRIES", n * n - 1)
    with pytest.raises(ValueError, match=f"h must have at most {n - 1} nodes .* it had {n} .*spectral_density"):
        jacobian.singular_values(linear_gcn(4, 4), random(n, 4), S)


# ------------------------------------------------- what a reader's own networks bring along

PYG_NORMS = {"GraphNorm": lambda: pyg_norm.GraphNorm(3), "InstanceNorm": lambda: pyg_norm.InstanceNorm(3),
             "LayerNorm": lambda: pyg_norm.LayerNorm(3, mode="graph"), "PairNorm": lambda: pyg_norm.PairNorm(),
             "MeanSubtractionNorm": lambda: pyg_norm.MeanSubtractionNorm(), "GraphSizeNorm": lambda: pyg_norm.GraphSizeNorm(),
             "DiffGroupNorm": lambda: pyg_norm.DiffGroupNorm(3, groups=2)}


@pytest.mark.parametrize("name", PYG_NORMS)
def test_a_norm_is_told_which_nodes_make_a_graph(name):
    """Two graphs of 4 and 5 nodes: the Jacobian is that of autograd with the same vector; no graph hears the other."""
    norm, h, batch = PYG_NORMS[name]().double().eval(), random(9, 3), torch.tensor([0] * 4 + [1] * 5)
    takes = name != "DiffGroupNorm"  # which knows no graphs at all
    J = torch.autograd.functional.jacobian(lambda columns: norm(columns.T, *[batch] * takes).T, h.T.contiguous()).reshape(27, 27)
    assert torch.allclose(jacobian.layer_jacobian(norm, h, batch), J, atol=1e-12)
    assert jacobian.spectral_norm(norm, h, batch) == pytest.approx(float(torch.linalg.matrix_norm(J, 2)), rel=1e-5)
    if takes:
        assert float(squashing.sensitivity(norm, h, batch, source=0, target=6).abs().max()) == 0
    in_a_stack = jacobian.compose([lambda h, e: 2 * h, norm])  # takes all nodes for one graph, as norm(h) does
    assert torch.equal(in_a_stack(h, graphs.ring(9)), norm(2 * h))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_jacobian_that_is_not_finite_is_refused_and_does_not_end_the_process(value):
    conv, h, edges = GCNConv(3, 3).double(), random(6, 3), graphs.ring(6)
    broken = GCNConv(3, 3).double()
    broken.lin.weight.data[0, 0] = value
    weight = torch.ones(edges.shape[1], dtype=FLOAT64)
    weight[0] = value
    steep = lambda h, e: torch.sqrt(torch.relu(conv(h, e)) * 0)  # noqa: E731 - finite, with an infinite slope
    for call in (jacobian.eigenvalues, jacobian.singular_values):
        for layer, graph in ((broken, (edges,)), (conv, (edges, weight)), (steep, (edges,)), (lambda h, e: torch.tanh(broken(h, e)), (edges,))):
            with pytest.raises(ValueError, match="layer must (have a finite Jacobian at h; |return features without NaN; )[0-9]+ of"):
                call(layer, h, *graph)


def test_nan_in_what_a_layer_returns_is_named_by_every_function():
    edges, h, weight = graphs.ring(6), random(6, 3), torch.ones(12, dtype=FLOAT64)
    weight[0] = float("nan")
    conv = GCNConv(3, 3).double()
    for call in (jacobian.layer_jacobian, jacobian.singular_values, jacobian.eigenvalues, jacobian.spectral_norm,
                 jacobian.spectral_density, lambda layer, *a: jacobian.gradient_norms([layer], *a),
                 lambda layer, *a: squashing.sensitivities(layer, *a, targets=[0])):
        with pytest.raises(ValueError, match="layer must return features without NaN; [0-9]+ of 18 were NaN"):
            call(conv, h, edges, weight)


def test_modules_that_change_their_buffers_are_warned_of():
    h, edges, normed = random(6, 3), graphs.ring(6), GCNConv(3, 3).double()
    nn.utils.parametrizations.spectral_norm(normed.lin, "weight")
    running = pyg_norm.InstanceNorm(3, track_running_stats=True).double()
    for layer, buffer in ((normed, "lin.parametrizations.weight.0._u"), (running, "running_mean")):
        with pytest.warns(UserWarning, match=f"layer changed its buffers .*{buffer}"):
            jacobian.layer_jacobian(layer, h, edges)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            jacobian.layer_jacobian(layer.eval(), h, edges)


def test_a_class_in_place_of_a_layer_is_named():
    h, edges = random(6, 3), graphs.ring(6)
    for call in (lambda: jacobian.layer_jacobian(GCNConv, h, edges), lambda: jacobian.gradient_norms([GCNConv], h, edges)):
        with pytest.raises(TypeError, match="it was the class GCNConv itself"):
            call()
    with pytest.raises(TypeError, match=r"layers must be a list of layers; it was one GCNConv \(for one layer: \[layer\]\)"):
        jacobian.gradient_norms(GCNConv(3, 3), h, edges)

