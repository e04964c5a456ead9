"""Each layer equals torch-geometric's with the same weights, in every layout, and its gradients are right."""

import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg

from gnnssm_lite import graphs
from gnnssm_lite.models import GAT, GCN, GIN, GatedGCN, GraphSAGE, build

FLOAT64 = torch.float64
NAMES = ("gcn", "gat", "gat_heads", "sage", "gin", "gated")
LAYERS = {"gcn": GCN, "gat": GAT, "sage": GraphSAGE, "gin": GIN, "gated": GatedGCN}


def copy(source, target):
    """Copy a Linear layer's weight, and its bias where both have one."""
    target.weight.data.copy_(source.weight.data)
    if target.bias is not None:
        target.bias.data.copy_(source.bias.data)


def smooth_mlp(d, d_out, bias):
    return nn.Sequential(nn.Linear(d, d_out, bias=bias), nn.Tanh(), nn.Linear(d_out, d_out, bias=bias))


def randomised(module, seed=0):
    """Every parameter drawn anew, the biases too: a zero bias would hide a wrong one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 2
    return module


def gcn_pair(d, d_out, bias):
    theirs, ours = pyg.GCNConv(d, d_out, bias=bias), GCN(d, d_out, None, bias=bias)
    return theirs, ours, lambda: (ours.weight.data.copy_(theirs.lin.weight.data.T),
                                  bias and ours.bias.data.copy_(theirs.bias.data))


def gat_pair(d, d_out, bias, heads=1):
    theirs = pyg.GATConv(d, d_out // heads, heads=heads, bias=bias)
    ours = GAT(d, d_out, None, heads=heads, bias=bias)
    return theirs, ours, lambda: (ours.weight.data.copy_(theirs.lin.weight.data.T),
                                  ours.att_src.data.copy_(theirs.att_src.data[0]),
                                  ours.att_dst.data.copy_(theirs.att_dst.data[0]),
                                  bias and ours.bias.data.copy_(theirs.bias.data))


def sage_pair(d, d_out, bias):
    theirs, ours = pyg.SAGEConv(d, d_out, aggr="mean", bias=bias), GraphSAGE(d, d_out, None, bias=bias)
    return theirs, ours, lambda: (copy(theirs.lin_l, ours.neighbours), copy(theirs.lin_r, ours.root))


def gin_pair(d, d_out, bias):
    mlp = smooth_mlp(d, d_out, bias)
    theirs = pyg.GINConv(mlp, eps=0.3, train_eps=True)
    ours = GIN(d, d_out, mlp=smooth_mlp(d, d_out, bias), epsilon=0.3, train_epsilon=True)
    return theirs, ours, lambda: (ours.mlp.load_state_dict(mlp.state_dict()),
                                  ours.epsilon.data.copy_(theirs.eps.data.reshape(())))


def gated_pair(d, d_out, bias):
    theirs, ours = pyg.ResGatedGraphConv(d, d_out, bias=bias), GatedGCN(d, d_out, None, bias=bias)

    def transfer():
        if not bias:  # torch-geometric keeps the biases of the three message maps whatever ``bias`` says
            for linear in (theirs.lin_key, theirs.lin_query, theirs.lin_value):
                linear.bias.data.zero_()
        copy(theirs.lin_key, ours.key)
        copy(theirs.lin_query, ours.query)
        copy(theirs.lin_value, ours.value)
        copy(theirs.lin_skip, ours.root)
        if bias:
            ours.bias.data.copy_(theirs.bias.data)

    return theirs, ours, transfer


PAIRS = {"gcn": gcn_pair, "gat": gat_pair, "gat_heads": lambda d, d_out, bias: gat_pair(d, d_out, bias, heads=2),
         "sage": sage_pair, "gin": gin_pair, "gated": gated_pair}


def pair(name, d, d_out, bias):
    theirs, ours, transfer = PAIRS[name](d, d_out, bias)
    randomised(theirs)
    randomised(ours, seed=1)
    transfer()
    return theirs, ours


def layer(name, d, d_out, bias=False, dtype=FLOAT64):
    """One of our layers with smooth activations and random weights."""
    if name == "gin":
        made = GIN(d, d_out, "tanh", mlp=smooth_mlp(d, d_out, bias), epsilon=0.3, train_epsilon=True)
    elif name.startswith("gat_"):
        made = GAT(d, d_out, "tanh", heads=2, bias=bias)
    else:
        made = LAYERS[name](d, d_out, "tanh", bias=bias)
    return randomised(made.to(dtype))


def features(n, d, dtype=FLOAT64, seed=2):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64).to(dtype)


# ---------------------------------------------------------------- the same numbers as torch-geometric

@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_equals_torch_geometric_with_the_same_weights(name, bias, graph):
    """To 1e-5 in float32, for a dense and a sparse operator, isolated nodes and empty graphs included."""
    edge_index, n = graph
    theirs, ours = pair(name, 5, 4, bias)
    h = features(n, 5, torch.float32)
    expected = theirs(h, edge_index)
    for layout in graphs.LAYOUTS:
        found = ours(h, graphs.operator(ours.operator, edge_index, n, layout))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_torch_geometrics(name, grid_graph):
    edge_index, n = grid_graph
    theirs, ours = pair(name, 5, 4, True)
    theirs, ours = theirs.double(), ours.double()
    upstream, gradients = features(n, 4, seed=3), []
    for module, graph in ((theirs, edge_index), (ours, graphs.operator(ours.operator, edge_index, n, dtype=FLOAT64))):
        h = features(n, 5).requires_grad_(True)
        module(h, graph).backward(upstream)
        gradients.append((h.grad, sum(p.grad.abs().sum() for p in module.parameters() if p.grad is not None)))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-9, atol=1e-11)
    assert gradients[0][1] == pytest.approx(float(gradients[1][1]), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_equals_torch_geometric_on_self_loops(name):
    """A loop in the data: GCN and GAT keep one, GraphSAGE, GIN and GatedGCN send a message along it."""
    edge_index, n = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 0, 2, 1]]), 4
    theirs, ours = pair(name, 3, 4, True)
    h = features(n, 3, torch.float32)
    for layout in graphs.LAYOUTS:
        found = ours(h, graphs.operator(ours.operator, edge_index, n, layout))
        torch.testing.assert_close(found, theirs(h, edge_index), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- laws of message passing

@pytest.mark.parametrize("name", NAMES)
def test_sparse_operator_gives_the_same_as_dense(name, graph):
    edge_index, n = graph
    conv = layer(name, 4, 6, bias=True)
    dense, sparse = (conv(features(n, 4), graphs.operator(conv.operator, edge_index, n, layout, FLOAT64))
                     for layout in graphs.LAYOUTS)
    torch.testing.assert_close(sparse, dense, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_batch_of_operators_gives_each_graph_its_own(name):
    """A batch of dense operators = each of them alone; one operator serves a batch of features."""
    conv = layer(name, 4, 6, bias=True)
    edges = [graphs.ring(7), graphs.star(7), graphs.path(4)]  # the last with three isolated nodes
    S = torch.stack([graphs.operator(conv.operator, e, 7, dtype=FLOAT64) for e in edges])
    h = torch.stack([features(7, 4, seed=s) for s in range(3)])
    torch.testing.assert_close(conv(h, S), torch.stack([conv(x, s) for x, s in zip(h, S, strict=True)]))
    torch.testing.assert_close(conv(h, S[0]), torch.stack([conv(x, S[0]) for x in h]))
    torch.testing.assert_close(conv(h[0], S), torch.stack([conv(h[0], s) for s in S]))


@pytest.mark.parametrize("layout", graphs.LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_permutation_equivariance(name, layout, graph):
    """f(P H, P S Pᵀ) = P f(H, S)."""
    edge_index, n = graph
    conv, h = layer(name, 4, 6, bias=True), features(n, 4)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(5))
    place = torch.argsort(order)
    out = conv(h, graphs.operator(conv.operator, edge_index, n, layout, FLOAT64))
    moved = conv(h[order], graphs.operator(conv.operator, place[edge_index], n, layout, FLOAT64))
    torch.testing.assert_close(moved, out[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", graphs.LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_component_does_not_hear_the_others(name, layout):
    """Features elsewhere change nothing here, and an isolated node gives what a graph of one node gives."""
    conv, h = layer(name, 4, 6, bias=True), features(6, 4)
    S = graphs.operator(conv.operator, graphs.path(3), 6, layout, FLOAT64)
    alone = graphs.operator(conv.operator, torch.empty(2, 0, dtype=torch.long), 1, layout, FLOAT64)
    changed = h.clone()
    changed[3:] += 1
    assert torch.equal(conv(changed, S)[:3], conv(h, S)[:3])
    assert not torch.allclose(conv(changed, S)[3:], conv(h, S)[3:])
    torch.testing.assert_close(conv(h, S)[5:], conv(h[5:], alone))


def test_gat_and_gated_gcn_look_at_the_pattern_alone(grid_graph):
    for name in ("gat", "gated"):
        conv, h = layer(name, 4, 6), features(12, 4)
        for layout in graphs.LAYOUTS:
            weighted, plain = (build(*grid_graph, layout, FLOAT64) for build in (graphs.mean_adjacency, graphs.adjacency))
            assert torch.equal(conv(h, weighted), conv(h, plain))


def test_gat_attention_is_an_average(grid_graph):
    """The weights of every node add up to 1: features equal at all nodes come out as h W."""
    conv, n = GAT(4, 6, None, heads=2).double(), 12
    h = features(1, 4).expand(n, 4)
    for layout in graphs.LAYOUTS:
        torch.testing.assert_close(conv(h, graphs.adjacency(*grid_graph, layout, FLOAT64)), h @ conv.weight)


# ---------------------------------------------------------------- gradients

@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layout", graphs.LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_features_and_every_parameter(name, layout, bias):
    """Analytic = numerical gradient in float64, on a graph with an isolated node."""
    conv, n = layer(name, 3, 4, bias), 5
    S = graphs.operator(conv.operator, graphs.path(4), n, layout, FLOAT64)
    names = [key for key, _ in conv.named_parameters()]

    def function(h, *values):
        return torch.func.functional_call(conv, dict(zip(names, values, strict=True)), (h, S))

    inputs = [t.detach().clone().requires_grad_(True) for t in (features(n, 3), *conv.parameters())]
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("layout", graphs.LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_gradgradcheck_features(name, layout):
    """The matrix-free engine differentiates twice."""
    conv = layer(name, 3, 4)
    S = graphs.operator(conv.operator, graphs.path(4), 5, layout, FLOAT64)
    assert torch.autograd.gradgradcheck(lambda h: conv(h, S), features(5, 3).requires_grad_(True))


# ---------------------------------------------------------------- as modules

@pytest.mark.parametrize("name", NAMES)
def test_runs_on_the_device_of_its_inputs(name):
    """On the meta device an operation that mixes devices fails, so a tensor made on the CPU inside would show."""
    conv = layer(name, 4, 6, bias=True).to("meta")
    for shape in ((), (2,)):
        h, S = (torch.empty(*shape, 7, k, dtype=FLOAT64, device="meta") for k in (4, 7))
        out = conv(h, S)
        assert out.device.type == "meta" and out.shape == (*shape, 7, 6)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_restores_a_layer(name, grid_graph):
    first, second = layer(name, 4, 6, bias=True), layer(name, 4, 6, bias=True)
    randomised(second, seed=9)
    S, h = graphs.operator(first.operator, *grid_graph, dtype=FLOAT64), features(12, 4)
    assert not torch.equal(first(h, S), second(h, S))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(h, S), second(h, S))


def test_activation_by_name_and_by_function_agree(grid_graph):
    h, S = features(12, 4), graphs.normalized_adjacency(*grid_graph, dtype=FLOAT64)
    named, given = GCN(4, 6, "tanh").double(), GCN(4, 6, torch.tanh).double()
    given.load_state_dict(named.state_dict())
    assert torch.equal(named(h, S), given(h, S))
    linear = GCN(4, 6, None).double()
    linear.load_state_dict(named.state_dict())
    assert torch.equal(linear(h, S).tanh(), named(h, S))


def test_bias_is_optional_and_off_by_default():
    assert "bias" not in dict(GCN(3, 2).named_parameters())
    for name in ("gcn", "gat", "sage", "gated"):
        h = torch.zeros(4, 3, dtype=FLOAT64)
        S = graphs.operator(LAYERS[name].operator, graphs.path(4), 4, dtype=FLOAT64)
        assert (layer(name, 3, 2)(h, S) == 0).all()  # f(0) = 0 (Lemma 4.1) needs no bias
        assert (layer(name, 3, 2, bias=True)(h, S) != 0).any()


def test_gin_trains_epsilon_only_when_asked():
    assert not GIN(3, 2).epsilon.requires_grad
    assert GIN(3, 2, train_epsilon=True).epsilon.requires_grad


@pytest.mark.parametrize("kind", sorted(graphs.OPERATORS))
def test_a_graph_convolution_is_given_the_operator_that_it_asks_for(kind):
    """Alone, inside GNN-SSM and in a network; with sums H' = σ(A H W)."""
    edge_index, n = graphs.erdos_renyi(9, 0.4, 1), 9
    h = torch.randn(n, 3, dtype=FLOAT64)
    for name, options in (("GCN", {}), ("GCN-SSM", {"eig": 0.0, "kind": "identity", "input_kind": "identity"})):
        model = build(name, 3, 2, 4, 1, activation="tanh", operator=kind, seed=1, **options).double()
        S, = model.graph_arguments(edge_index, n, dtype=FLOAT64)
        assert torch.equal(S, graphs.operator(kind, edge_index, n, dtype=FLOAT64))
        weight = getattr(model.layers[0], "coupling", model.layers[0]).weight
        assert torch.allclose(model(h, S), model.readout(torch.tanh(S @ model.encoder(h) @ weight)), atol=1e-14)
    with pytest.raises(ValueError, match="operator must be one of"):
        GCN(3, 3, operator="sum")
