"""GPS: torch-geometric's numbers with the same weights, attention within a graph, and its Jacobian sees every pair."""
import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv, GPSConv

from gnnssm_lite import graphs
from gnnssm_lite.jacobian import layer_jacobian
from gnnssm_lite.models import GPS, GraphSAGE

EDGES = graphs.erdos_renyi(9, 0.4, 1)
S = graphs.normalized_adjacency(EDGES, 9)


def twin(layer: GPS, norm: str | None, heads: int) -> GPSConv:
    """torch-geometric's layer with the weights of ours; its MLP has dropout modules between."""
    conv = GPSConv(8, GCNConv(8, 8, bias=False), heads=heads, act="relu", norm=norm)
    conv.conv.lin.weight.data = layer.coupling.weight.detach().T.clone()
    conv.attn.load_state_dict(layer.attention.state_dict())
    ours, theirs = ([m for m in mlp if isinstance(m, nn.Linear)] for mlp in (layer.mlp, conv.mlp))
    for a, b in zip(ours, theirs, strict=True):
        b.load_state_dict(a.state_dict())
    return conv


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_it_equals_gpsconv_of_torch_geometric(norm, heads):
    layer = GPS(8, heads, "relu", norm=norm)
    conv = twin(layer, "batch_norm" if norm == "batch" else None, heads)
    h = torch.randn(9, 8)
    for train in (True, False):
        assert torch.allclose(layer.train(train)(h, S), conv.train(train)(h, EDGES), atol=1e-5)


def test_attention_stays_within_a_graph():
    layer = GPS(8, 2, norm="layer").double()
    A = torch.stack([graphs.normalized_adjacency(e, 9, dtype=torch.float64) for e in (EDGES, graphs.ring(9))])
    h = torch.randn(2, 9, 8, dtype=torch.float64)
    other = h.clone()
    other[1] += 1.0
    out, changed = layer(h, A), layer(other, A)
    assert torch.equal(out[0], changed[0])
    assert not torch.allclose(out[1], changed[1])


def test_one_layer_connects_nodes_that_no_path_connects():
    apart = graphs.undirected(torch.tensor([[0, 2], [1, 3]]))
    layer = GPS(4, norm="none", activation="tanh").double()
    J = layer_jacobian(layer, torch.randn(4, 4, dtype=torch.float64), graphs.normalized_adjacency(apart, 4, dtype=torch.float64))
    blocks = J.reshape(4, 4, 4, 4).abs().sum((0, 2))  # vec stacks columns: (feature, node) x (feature, node)
    assert (blocks > 1e-12).all()


def test_any_coupling_may_stand_in_and_names_its_operator():
    layer = GPS(4, coupling=GraphSAGE(4, 4))
    assert layer.operator == "mean"
    assert layer(torch.randn(9, 4), graphs.operator("mean", EDGES, 9)).shape == (9, 4)


def test_gradients_are_right():
    layer = GPS(4, 2, activation="tanh", norm="layer").double()
    dense = S.double()
    h = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: layer(h, dense), (h,))


@pytest.mark.parametrize("bad, error, words", [
    ({"heads": 3}, ValueError, "heads must divide dim = 8; it was 3"),
    ({"heads": 0}, ValueError, "heads must be at least 1"),
    ({"norm": "graph"}, ValueError, "norm must be one of 'batch', 'layer', 'none'"),
    ({"activation": "sine"}, ValueError, "activation must be"),
])
def test_bad_arguments_are_refused(bad, error, words):
    with pytest.raises(error, match=words):
        GPS(8, **bad)
    with pytest.raises(ValueError, match="h must have 8 features"):
        GPS(8)(torch.randn(9, 4), S)
