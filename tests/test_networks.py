"""Networks: every registered model takes one graph, many graphs of one size, and says what graph it needs."""
import pytest
import torch
from torch import nn
from torch_geometric.nn import GATConv, GCN2Conv, GCNConv, GINConv, SAGEConv

from gnnssm_lite import graphs
from gnnssm_lite.experiments.graph_properties import PUBLIC_CODE
from gnnssm_lite.models import (
    GCN,
    GIN,
    GNNSSM,
    GraphSAGE,
    Network,
    Residual,
    batch_shell_operators,
    build,
    kGCN,
    names,
    options_of,
    shell_operators,
    state_matrix,
)
from gnnssm_lite.models.networks import pool
from gnnssm_lite.models.recurrence import operator_of

FLOAT64 = torch.float64
GRAPHS = [graphs.path(8), graphs.ring(8), graphs.erdos_renyi(8, 0.4, 3), graphs.complete(8)]


def batched(model):
    """The four graphs of eight nodes as one batch: what ``model`` takes beside features."""
    A = torch.stack([graphs.adjacency(edges, 8, dtype=FLOAT64) for edges in GRAPHS])
    if model.operator != "shells":
        return (graphs.batch_operator(model.operator, A),)
    distance = torch.stack([graphs.shortest_path_lengths(edges, 8) for edges in GRAPHS])
    return (batch_shell_operators(distance, model.hops, FLOAT64, model.shell),)


@pytest.mark.parametrize("kind", ["normalized", "mean", "adjacency"])
def test_operators_of_a_batch_are_those_of_its_graphs(kind):
    lonely = graphs.undirected(torch.tensor([[0], [1]]))  # six of eight nodes isolated
    edges = [*GRAPHS, lonely]
    A = torch.stack([graphs.adjacency(e, 8, dtype=FLOAT64) for e in edges])
    each = torch.stack([graphs.operator(kind, e, 8, dtype=FLOAT64) for e in edges])
    assert torch.allclose(graphs.batch_operator(kind, A), each, atol=1e-15)


@pytest.mark.parametrize("kind", ["normalized", "mean", "adjacency"])
def test_operators_of_a_weighted_batch_are_those_of_its_graphs(kind):
    """Rows of D⁻¹A sum to 1 however small the weights are."""
    A = torch.stack([w * graphs.adjacency(GRAPHS[2], 8, dtype=FLOAT64) for w in (0.01, 0.1, 3.0)])
    D = A.sum(-1)
    found = graphs.batch_operator(kind, A)
    closed = A + torch.eye(8, dtype=FLOAT64)
    root = (D + 1).sqrt()
    expected = {"mean": A / torch.where(D > 0, D, 1).unsqueeze(-1), "adjacency": A,
                "normalized": closed / (root.unsqueeze(-1) * root.unsqueeze(-2))}[kind]
    assert torch.allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("kind", ["normalized", "mean", "adjacency"])
@pytest.mark.parametrize("A, error, message", [
    (torch.tensor([[0.0, 1.0], [0.0, 0.0]]), ValueError, r"A must be symmetric; max \|A - Aᵀ\| = 1"),
    (torch.tensor([[0.0, -1.0], [-1.0, 0.0]]), ValueError, "A must be non-negative; its smallest entry was -1"),
    (torch.tensor([[0.0, torch.nan], [torch.nan, 0.0]]), ValueError, "A must be finite; 2 of its 4"),
    (torch.ones(2, 3), ValueError, r"A must be dense, of shape \(..., n, n\); its shape was \(2, 3\)"),
    (graphs.adjacency(graphs.ring(4), 4, "sparse"), ValueError, "A must be dense, .* its layout torch.sparse_csr"),
    (torch.ones(2, 2, dtype=torch.bool), TypeError, "A must have a floating-point dtype"),
    ([[0.0]], TypeError, "A must be a torch.Tensor"),
])
def test_batches_that_are_no_graphs_are_refused(kind, A, error, message):
    with pytest.raises(error, match=message):
        graphs.batch_operator(kind, A)


def test_shell_operators_of_a_batch_are_those_of_its_graphs_and_the_identity_beyond_the_diameter():
    distance = torch.stack([graphs.shortest_path_lengths(edges, 8) for edges in GRAPHS])
    together = batch_shell_operators(distance, 7, FLOAT64)
    for i, edges in enumerate(GRAPHS):
        alone = shell_operators(edges, 8, 7, dtype=FLOAT64)
        for k in range(7):
            expected = alone[k] if k < len(alone) else torch.eye(8, dtype=FLOAT64)
            assert torch.allclose(together[k][i], expected, atol=1e-15)
    apart = torch.full((3, 3), -1.0).fill_diagonal_(0)  # no two nodes connected
    assert all(torch.equal(S, torch.eye(3)) for S in batch_shell_operators(apart, 2))
    assert all(torch.equal(S, torch.zeros(3, 3)) for S in batch_shell_operators(apart, 2, kind="adjacency"))


@pytest.mark.parametrize("kind", ["adjacency", "mean"])
def test_shells_of_other_kinds_sum_and_average_over_what_is_at_their_distance(kind):
    edges = GRAPHS[2]
    distance = graphs.shortest_path_lengths(edges, 8)
    alone = shell_operators(edges, 8, 7, dtype=FLOAT64, complete=True, kind=kind)
    for k, (S, T) in enumerate(zip(alone, batch_shell_operators(distance, 7, FLOAT64, kind), strict=True), start=1):
        A = (distance == k).double()
        expected = A if kind == "adjacency" else A / A.sum(1, keepdim=True).clamp(min=1)
        assert torch.equal(S, T) and torch.allclose(S, expected, atol=1e-15)
    with pytest.raises(ValueError, match="kind must be one of"):
        shell_operators(edges, 8, 2, kind="laplacian")


@pytest.mark.parametrize("name", ["kGCN", "kGCN-SSM"])
@pytest.mark.parametrize("shell", ["adjacency", "mean"])
def test_networks_ask_for_the_shells_of_their_layers(name, shell):
    """A graph gives the same output alone, in a batch and by Eq. (21) written out, beyond its diameter too."""
    options = {"eig": 0.5, "kind": "identity", "input_kind": "identity"} if "SSM" in name else {}
    model = build(name, 3, 2, 6, 5, readout="mlp", seed=1, activation="tanh", shell=shell, **options).double()
    x = torch.randn(len(GRAPHS), 8, 3, dtype=FLOAT64, generator=torch.Generator().manual_seed(0))
    together = model(x, *batched(model))
    for i, edges in enumerate(GRAPHS):
        distance, h = graphs.shortest_path_lengths(edges, 8), model.encoder(x[i])
        for k, layer in enumerate(model.layers, start=1):
            A = (distance == k).double()
            S = A if shell == "adjacency" else A / A.sum(1, keepdim=True).clamp(min=1)
            h = (0.5 * h if options else 0) + torch.tanh(S @ h @ getattr(layer, "coupling", layer).weight)
        for layout in ("dense", "sparse"):
            alone = model(x[i], *model.graph_arguments(edges, 8, layout, FLOAT64))
            assert torch.allclose(alone, together[i], atol=1e-12) and torch.allclose(alone, model.readout(h), atol=1e-12)
    assert model.shell == shell and build("GCN", 3, 2, 6, 5).shell == "normalized"
    with pytest.raises(ValueError, match="shell must be one of"):
        build(name, 3, 2, 6, 5, shell="sum")


@pytest.mark.parametrize(("shell", "expected"), [("normalized", 1.0), ("adjacency", 0.0), ("mean", 0.0)])
def test_beyond_the_last_shell_only_self_loops_remain(shell, expected):
    h, layer = torch.randn(4, 3), kGCN(3, 3, None, hop=3, shell=shell)
    shells = shell_operators(graphs.path(4), 4, 2, kind=shell)
    assert torch.equal(layer(h, shells), expected * (h @ layer.weight))


@pytest.mark.parametrize("level", ["node", "graph"])
@pytest.mark.parametrize("name", names())
def test_a_batch_gives_the_outputs_of_its_graphs(name, level):
    model = build(name, 3, 2, 6, 4, level=level, readout="mlp", seed=1).double().eval()  # batch norms mix graphs in training
    x = torch.randn(len(GRAPHS), 8, 3, dtype=FLOAT64, generator=torch.Generator().manual_seed(0))
    together = model(x, *batched(model))
    assert together.shape == ((4, 8, 2) if level == "node" else (4, 2))
    for i, edges in enumerate(GRAPHS):
        alone = model(x[i], *model.graph_arguments(edges, 8, dtype=FLOAT64))
        assert torch.allclose(together[i], alone, atol=1e-12)


@pytest.mark.parametrize("name", names())
def test_outputs_follow_a_renumbering_of_the_nodes(name):
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    renumbered = torch.argsort(order)[GRAPHS[2]]
    x = torch.randn(8, 3, dtype=FLOAT64, generator=torch.Generator().manual_seed(0))
    for level in ("node", "graph"):
        model = build(name, 3, 2, 6, 3, level=level, seed=1).double()
        out = model(x, *model.graph_arguments(GRAPHS[2], 8, dtype=FLOAT64))
        same = model(x[order], *model.graph_arguments(renumbered, 8, dtype=FLOAT64))
        assert torch.allclose(same, out[order] if level == "node" else out, atol=1e-12)


@pytest.mark.parametrize("name", names())
def test_the_seed_decides_all_weights(name):
    first, second, other = (build(name, 3, 2, 6, 3, seed=s).state_dict() for s in (4, 4, 5))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def repeats(fixed, weights, length=8):
    """Whether some ``length`` numbers in a row of a matrix stand, up to a factor, in one of the weights."""
    rows = [t.detach().flatten().unfold(0, length, 1) for t in (fixed, *weights) if t.numel() >= length]
    wanted, *found = (row / row.norm(dim=1, keepdim=True) for row in rows)
    return any(bool(((wanted @ row.T).abs() > 1 - 1e-6).any()) for row in found)


@pytest.mark.parametrize("name", ["GCN-SSM", "GAT-SSM", "kGCN-SSM"])
def test_fixed_matrices_are_drawn_apart_from_the_weights(name):
    def found(**state):
        model = build(name, 3, 2, 12, 4, readout="mlp", seed=3, kind="uniform", **state)
        return [repeats(fixed, list(model.parameters())) for fixed in (model.layers[0].Lambda, model.layers[0].B)], model

    apart, model = found()
    assert apart == [False, False] and not repeats(model.layers[0].Lambda, [model.layers[0].B])
    same, shared = found(state_seed=3)
    assert any(same)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), shared.parameters(), strict=True))
    (_, other), (_, again) = found(state_seed=4), found(state_seed=4)
    assert torch.equal(other.layers[0].B, again.layers[0].B) and not torch.equal(other.layers[0].B, model.layers[0].B)
    with pytest.raises(ValueError, match="state_seed"):
        found(state_seed=-1)


@pytest.mark.parametrize("name", names())
def test_sparse_operators_give_the_numbers_of_dense_ones(name):
    model = build(name, 3, 2, 6, 3, seed=1).double()
    x = torch.randn(8, 3, dtype=FLOAT64, generator=torch.Generator().manual_seed(0))
    dense, sparse = (model(x, *model.graph_arguments(GRAPHS[0], 8, layout, FLOAT64)) for layout in ("dense", "sparse"))
    assert torch.allclose(dense, sparse, atol=1e-12)


def test_pooling_is_sum_maximum_and_mean():
    h = torch.tensor([[[1.0, -2.0], [3.0, 0.0]], [[0.0, 1.0], [-1.0, 1.0]]])
    assert torch.equal(pool(h), torch.tensor([[4.0, -2.0, 3.0, 0.0, 2.0, -1.0], [-1.0, 2.0, 0.0, 1.0, -0.5, 1.0]]))


# ---------------------------------------------------------------- torch-geometric's layers

class Wrapped(nn.Module):
    """A reader's own layer around another one; it names no operator."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, h, graph):
        return torch.tanh(self.conv(h, graph))


def network_of(*layers):
    return Network(nn.Linear(3, 4), list(layers), nn.Linear(4, 2)).double()


@pytest.mark.parametrize("around", [lambda conv: conv, Residual, Wrapped, lambda conv: GNNSSM(conv, torch.eye(4)),
                                    lambda conv: GNNSSM(Wrapped(conv), torch.eye(4)), lambda conv: Residual(Wrapped(conv))])
@pytest.mark.parametrize("conv", [GCNConv, GATConv])
def test_layers_of_torch_geometric_get_edge_index_and_give_the_numbers_of_ours(conv, around):
    """Â in its place would be read as a graph with weights, and normalised a second time."""
    edges, x = GRAPHS[2], torch.randn(8, 3, dtype=FLOAT64)
    model = network_of(around(conv(4, 4)), around(conv(4, 4)))
    assert operator_of(model.layers[0]) == model.operator == "edge_index"
    for layout in graphs.LAYOUTS:
        graph = model.graph_arguments(edges, 8, layout, FLOAT64)
        assert len(graph) == 1 and graph[0] is edges
    if conv is GCNConv:
        ours = network_of(*(around(GCN(4, 4, None, bias=True)) for _ in range(2)))
        ours.load_state_dict({key.replace(".lin.weight", ".weight"): value.T if ".lin.weight" in key else value
                              for key, value in model.state_dict().items()})
        assert ours.operator == "normalized"
        assert torch.allclose(model(x, *graph), ours(x, *ours.graph_arguments(edges, 8, dtype=FLOAT64)), atol=1e-12)


def test_layers_that_name_an_operator_and_functions_keep_theirs():
    assert [operator_of(layer) for layer in (GCN(4, 4), GCN(4, 4, operator="mean"), kGCN(4, 4), None, lambda h, S: h,
                                             Wrapped(GCN(4, 4)))] == [
        "normalized", "mean", "shells", "normalized", "normalized", "normalized"]
    named = Wrapped(GCNConv(4, 4))
    named.operator = "adjacency"
    assert operator_of(named) == GNNSSM(named, torch.eye(4)).operator == "adjacency"


def test_a_layer_with_edge_index_cannot_stand_beside_one_with_an_operator():
    memory = GNNSSM(None, torch.eye(4, dtype=FLOAT64))  # takes anything
    assert network_of(memory, GCNConv(4, 4)).graph_arguments(GRAPHS[0], 8) == (GRAPHS[0],)
    for layers in ((GCN(4, 4), GCNConv(4, 4)), (GCNConv(4, 4), GNNSSM(GCN(4, 4), torch.eye(4)))):
        with pytest.raises(ValueError, match=r"layers must all take edge_index .* layers\[[01]\] was G.*'normalized'"):
            network_of(*layers).graph_arguments(GRAPHS[0], 8)


# ---------------------------------------------------------------- Eq. (21)

@pytest.mark.parametrize("source", ["state", "input"])
def test_a_khop_layer_is_eq_21_node_by_node(source):
    """Sums over N_k(u), written out; the operator of a shell carries self-loops and both degrees."""
    edges, n, k = GRAPHS[0], 8, 2
    layer = kGCN(5, 5, "tanh", hop=k, source=source).double()
    h, h0 = torch.randn(2, n, 5, dtype=FLOAT64)
    distance = graphs.shortest_path_lengths(edges, n)
    out = layer(h, shell_operators(edges, n, 4, dtype=FLOAT64), *([h0] if source == "input" else []))
    sent = h if source == "state" else h0
    for u in range(n):
        closed = [v for v in range(n) if distance[u, v] == k or v == u]
        size = {v: 1 + int((distance[v] == k).sum()) for v in range(n)}
        total = sum(sent[v] @ layer.weight / (size[u] * size[v]) ** 0.5 for v in closed)
        assert torch.allclose(out[u], torch.tanh(total), atol=1e-12)


def test_the_first_hop_is_a_graph_convolution():
    model, S = kGCN(5, 5, "tanh", hop=1).double(), graphs.normalized_adjacency(GRAPHS[1], 8, dtype=FLOAT64)
    plain = GCN(5, 5, "tanh").double()
    plain.load_state_dict(model.state_dict())
    h = torch.randn(8, 5, dtype=FLOAT64)
    assert torch.allclose(model(h, shell_operators(GRAPHS[1], 8, 1, dtype=FLOAT64)), plain(h, S), atol=1e-14)


def test_layer_k_of_a_khop_state_space_model_reads_distance_k_only():
    """With eig(Λ) = 0 the state is the last update, so the Jacobian's pattern is that of one shell."""
    edges = graphs.path(7)
    model = build("kGCN-SSM", 3, 2, 4, 3, eig=0.0, kind="identity", activation=None).double()
    shells = shell_operators(edges, 7, 3, dtype=FLOAT64)
    distance = graphs.shortest_path_lengths(edges, 7)
    for k, layer in enumerate(model.layers, start=1):
        J = torch.autograd.functional.jacobian(lambda h, layer=layer: layer(h, shells), torch.zeros(7, 4, dtype=FLOAT64))
        touched = J.abs().sum((1, 3)) > 1e-14
        assert torch.equal(touched, (distance == k) | (distance == 0))


def test_sending_the_input_keeps_sending_the_input():
    """Two layers of the input reading with Λ = I add up to the two shells of H⁰ (linear case)."""
    edges = graphs.ring(8)
    model = build("kGCN-SSM", 3, 2, 4, 2, eig=1.0, kind="identity", activation=None, source="input").double()
    shells = shell_operators(edges, 8, 2, dtype=FLOAT64)
    h = torch.randn(8, 4, dtype=FLOAT64)
    *_, last = model.states(h, shells)
    expected = h + sum(shells[k] @ h @ layer.coupling.weight @ layer.B for k, layer in enumerate(model.layers))
    assert torch.allclose(last, expected, atol=1e-12)


def test_shells_without_self_loops_reach_only_what_is_at_their_distance():
    edges = graphs.path(5)
    for k, S in enumerate(shell_operators(edges, 5, 4, dtype=FLOAT64, self_loops=False), start=1):
        A = (graphs.shortest_path_lengths(edges, 5) == k).double()
        scale = A.sum(1).clamp(min=1).rsqrt()
        assert torch.allclose(S, scale[:, None] * A * scale, atol=1e-15)


def test_khop_layers_refuse_what_they_cannot_use():
    shells = shell_operators(GRAPHS[0], 8, 2)
    h = torch.zeros(8, 4)
    with pytest.raises(ValueError, match="h0 must have the shape of h"):
        kGCN(4, 4, source="input")(h, shells)
    with pytest.raises(ValueError, match="source must be one of 'state', 'input'"):
        kGCN(4, 4, source="output")
    with pytest.raises(ValueError, match="hop must be at least 1"):
        kGCN(4, 4, hop=0)
    with pytest.raises(TypeError, match="shells must be a list"):
        kGCN(4, 4)(h, shells[0])
    with pytest.raises(ValueError, match=r"shells\[1\] must be a tensor of shape"):
        kGCN(4, 4)(h, [shells[0], torch.zeros(3, 3)])


def test_gradients_of_khop_layers_are_right():
    shells = shell_operators(GRAPHS[0], 8, 3, dtype=FLOAT64)
    h = torch.randn(8, 3, dtype=FLOAT64, requires_grad=True)
    layer = GNNSSM(kGCN(3, 3, "tanh", hop=2).double(), state_matrix(3, dtype=FLOAT64))
    weight = layer.coupling.weight

    def apply(h, weight):
        return torch.func.functional_call(layer, {"coupling.weight": weight}, (h, shells))

    assert torch.autograd.gradcheck(apply, (h, weight))


# ---------------------------------------------------------------- the registry

def test_layers_with_initial_features_get_them():
    model = build("GCNII", 3, 2, 4, 3, alpha=1.0, activation=None).double()
    h = torch.randn(8, 4, dtype=FLOAT64)
    S = graphs.normalized_adjacency(GRAPHS[0], 8, dtype=FLOAT64)
    *_, state = model.states(h, S)
    layer = model.layers[-1]
    assert torch.allclose(state, (1 - layer.beta) * h + layer.beta * h @ layer.weight)


def test_time_steps_share_weights_unless_told_otherwise():
    count = {shared: sum(p.numel() for p in build("ADGN", 3, 2, 4, 5, shared=shared).layers.parameters())
             for shared in (True, False)}
    assert count[False] == 5 * count[True]


def test_depth_zero_is_encoder_and_readout():
    for name in names():
        model = build(name, 3, 2, 4, 0)
        x = torch.randn(8, 3)
        assert torch.equal(model(x, torch.eye(8)), model.readout(model.encoder(x)))


def test_bad_networks_are_refused():
    with pytest.raises(ValueError, match="did you mean 'kGCN-SSM'"):
        build("kGCNSSM", 3, 2, 4, 2)
    with pytest.raises(ValueError, match="readout must be one of 'linear', 'mlp', 'mlp_leaky'"):
        build("GCN", 3, 2, 4, 2, readout="none")
    with pytest.raises(ValueError, match="hidden_dim must be at least 1"):
        build("GCN", 3, 2, 0, 2)
    with pytest.raises(ValueError, match="num_layers must be at least 0"):
        build("GCN", 3, 2, 4, -1)
    assert isinstance(build("GCN", 3, 2, 4, 1, readout="mlp").readout, nn.Sequential)


def public_network(model, level):
    """The network of the benchmark's first public code, of torch-geometric's layers, with the weights of ``model``."""
    def conv(layer):
        if isinstance(layer, GCN):
            theirs = GCNConv(6, 6)
            theirs.lin.weight.data, theirs.bias.data = layer.weight.data.T, layer.bias.data
        elif isinstance(layer, GraphSAGE):
            theirs = SAGEConv(6, 6)
            theirs.lin_l, theirs.lin_r = layer.neighbours, layer.root
        elif isinstance(layer, GIN):
            theirs = GINConv(nn.Linear(6, 6), train_eps=True)  # which draws the weights of its module anew
            theirs.nn, theirs.eps.data = layer.mlp, layer.epsilon.data.reshape(1)
        else:
            theirs = GCN2Conv(6, alpha=0.1)
            theirs.weight1.data = layer.weight.data
        return theirs

    convs, width = [conv(layer) for layer in model.layers], 6 if level == "node" else 18
    first, slope, last, end = model.readout
    assert (first.in_features, first.out_features, last.in_features) == (width, width // 2, width // 2)
    assert isinstance(slope, nn.LeakyReLU) and isinstance(end, nn.LeakyReLU)

    def forward(x, edge_index):
        h = h0 = model.encoder(x)
        for layer in convs:
            h = (layer(h, h0, edge_index) if isinstance(layer, GCN2Conv) else layer(h, edge_index)).tanh()
        h = torch.cat([h.sum(0), h.max(0).values, h.mean(0)]) if level == "graph" else h
        return nn.functional.leaky_relu(last(nn.functional.leaky_relu(first(h))))
    return forward


@pytest.mark.parametrize("level", ["node", "graph"])
@pytest.mark.parametrize("row", ["GCN", "GraphSAGE", "GIN", "GCNII"])
def test_networks_of_the_public_code_are_those_of_torch_geometric(row, level):
    name, options = PUBLIC_CODE[f"{row}, public code"]
    model = build(name, 2, 1, 6, 4, level=level, seed=3, activation="tanh", **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no bias or ε at zero
    edge_index, n = graphs.erdos_renyi(9, 0.4, seed=1), 9
    x = torch.randn(n, 2, dtype=torch.float64)
    ours = model(x, *model.graph_arguments(edge_index, n, dtype=torch.float64))
    assert torch.allclose(ours, public_network(model, level)(x, edge_index), atol=1e-12)
    assert model.readout[-1](torch.tensor(-1.0)) == pytest.approx(-0.01)


def test_options_are_those_that_build_takes_with_their_defaults():
    assert options_of("GCN-SSM") == {"activation": "relu", "bias": False, "operator": "normalized", "eig": 1.0,
                                     "kind": "orthogonal", "input_kind": "uniform"}
    assert "hop" not in options_of("kGCN") and options_of("DRewGCN-delay")["nu"] == 1
    for name in names():
        plain, told = build(name, 3, 2, 4, 2), build(name, 3, 2, 4, 2, **options_of(name))
        assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), told.state_dict().values(), strict=True))


def test_an_unknown_option_is_named_with_the_nearest_known_one():
    with pytest.raises(TypeError, match=r"options of 'GCN-SSM' must be one of .*it was 'eigs'; did you mean 'eig'"):
        build("GCN-SSM", 3, 2, 4, 2, eigs=0.9)
    with pytest.raises(TypeError, match="it was 'hop'"):
        build("kGCN", 3, 2, 4, 2, hop=2)
    with pytest.raises(ValueError, match="did you mean 'ADGN'"):
        options_of("A-DGN")


# ---------------------------------------------------------------- what users do by mistake

def test_layers_that_ask_for_different_operators_are_refused():
    edge_index = graphs.star(4)
    for layers, words in (([GraphSAGE(3, 3), GIN(3, 3)], "layers\\[1\\], a GIN, asks for 'adjacency', layers\\[0\\] for 'mean'"),
                          ([kGCN(3, 3, hop=1), kGCN(3, 3, hop=2, shell="adjacency")], "asks for 'adjacency shells', layers\\[0\\] for 'normalized shells'")):
        with pytest.raises(ValueError, match=words):
            Network(nn.Identity(), layers, nn.Identity()).graph_arguments(edge_index, 4)


def test_a_residual_connection_around_another_width_is_refused_and_not_broadcast():
    S = graphs.operator("normalized", graphs.star(4), 4)
    with pytest.raises(ValueError, match=r"must keep the shape \(4, 3\) of h; it returned \(4, 1\)"):
        Residual(GCN(3, 1))(torch.randn(4, 3), S)


def test_one_module_for_several_layers_is_refused():
    with pytest.raises(TypeError, match="mlp must be no module"):
        build("GIN", 3, 2, 4, 3, mlp=nn.Linear(4, 4))
    with pytest.raises(TypeError, match="coupling must be no module"):
        build("GraphCON", 3, 2, 4, 3, shared=False, coupling=GCN(4, 4, None))
    assert len(build("GraphCON", 3, 2, 4, 3, coupling=GCN(4, 4, None)).layers) == 3       # one system, three steps
    assert isinstance(GIN(4, 4, mlp=nn.Sequential()).mlp, nn.Sequential) and len(GIN(4, 4, mlp=nn.Sequential()).mlp) == 0


def test_sizes_and_names_are_checked_with_a_word_on_what_was_meant():
    with pytest.raises(ValueError, match="in_dim must be at least 1; it was -1"):
        build("GCN", -1, 2, 4, 2)
    with pytest.raises(ValueError, match="did you mean 'GCN'"):
        build("gcn", 3, 2, 4, 2)


@pytest.mark.parametrize("name", names())
def test_every_network_runs_under_autocast_and_in_torchs_default_dtype(name):
    edge_index, x = graphs.ring(6), torch.randn(6, 3)
    model = build(name, 3, 2, 4, 2).eval()
    arguments = model.graph_arguments(edge_index, 6)
    with torch.no_grad():
        exact = model(x, *arguments)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(x, *arguments)
    assert rounded.dtype == torch.bfloat16 and float((rounded - exact).abs().max()) < 0.05 * float(exact.abs().max())
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        model = build(name, 3, 2, 4, 2)
        assert model(x.double(), *model.graph_arguments(edge_index, 6, dtype=torch.float64)).dtype == torch.float64
    finally:
        torch.set_default_dtype(before)
