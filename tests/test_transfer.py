"""Transfer tasks against the laws that make them tests of long range: distance, balance, and what the target can know."""

import pytest
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv

from gnnssm_lite import graphs
from gnnssm_lite.datasets import (
    TransferTask,
    clique_path_transfer,
    crossed_ring_transfer,
    line_transfer,
    ring_transfer,
    transfer_task,
)
from gnnssm_lite.models import GCN

FAMILIES = {
    "ring": (ring_transfer, 3, lambda n: n // 2),
    "crossed ring": (crossed_ring_transfer, 5, lambda n: n // 2),
    "line": (line_transfer, 2, lambda n: n - 1),
    "clique with path": (clique_path_transfer, 4, lambda n: n - n // 2 + 1),
    "path with clique": (lambda n, **kw: clique_path_transfer(n, source="clique", **kw), 4, lambda n: n - n // 2 + 1),
}
every_family = pytest.mark.parametrize(("make", "smallest", "hops"), FAMILIES.values(), ids=FAMILIES)


def pairs(task):
    return set(map(tuple, task.edge_index.t().tolist()))


# ---------------------------------------------------------------- the graph

@every_family
def test_distance_is_what_the_docstring_says_for_every_size(make, smallest, hops):
    for n in range(smallest, 72):
        task = make(n, num_graphs=5)
        lengths = graphs.shortest_path_lengths(task.edge_index, n)
        assert task.distance == hops(n) == lengths[task.source, task.target], n
        # Nothing in the graph is farther away than the target: the task is the longest range the graph has.
        assert lengths[task.source].max() == task.distance, n


def test_opposite_node_of_a_ring_has_two_shortest_paths_if_even_and_one_if_odd():
    for n in range(4, 40):
        task = ring_transfer(n, num_graphs=5)
        A = graphs.adjacency(task.edge_index, n, dtype=torch.float64)
        walks = torch.linalg.matrix_power(A, task.distance)[task.target, task.source]
        assert walks == (1 if n % 2 else 2), n


def test_crosses_add_shortest_paths_and_no_shortcut():
    for n in range(6, 60):
        plain, crossed = ring_transfer(n, num_graphs=5), crossed_ring_transfer(n, num_graphs=5)
        assert pairs(plain) < pairs(crossed)
        from_source = [graphs.shortest_path_lengths(t.edge_index, n, t.source) for t in (plain, crossed)]
        assert torch.equal(*from_source), n
        added = pairs(crossed) - pairs(plain)
        assert not any({plain.source, plain.target} & set(edge) for edge in added), n
        # Every step but the first and the last has two choices: 2^(n/2 - 1) shortest paths instead of 2.
        A = graphs.adjacency(crossed.edge_index, n, dtype=torch.float64)
        if n % 2 == 0:
            assert torch.linalg.matrix_power(A, n // 2)[crossed.target, crossed.source] == 2 ** (n // 2 - 1), n


def test_clique_path_is_half_clique_and_half_path():
    for n in range(4, 40):
        m = n // 2
        clique = {(i, j) for i in range(m) for j in range(m) if i != j}
        line = {edge for i in range(m - 1, n - 1) for edge in ((i, i + 1), (i + 1, i))}
        assert pairs(clique_path_transfer(n, num_graphs=5)) == clique | line, n


def test_source_and_target_are_where_the_docstrings_say():
    assert (ring_transfer(12).source, ring_transfer(12).target) == (0, 6)
    assert (ring_transfer(13).source, ring_transfer(13).target) == (0, 6)
    assert (crossed_ring_transfer(12).source, crossed_ring_transfer(12).target) == (0, 6)
    assert (line_transfer(12).source, line_transfer(12).target) == (0, 11)
    in_clique, on_path = clique_path_transfer(12, source="clique"), clique_path_transfer(12, source="path")
    assert (in_clique.source, in_clique.target) == (on_path.target, on_path.source) == (0, 11)
    assert clique_path_transfer(12).source == on_path.source
    degree = torch.bincount(on_path.edge_index[0])
    assert degree[on_path.source] == 1 and degree[on_path.target] == 5


@every_family
def test_graph_is_undirected_and_simple(make, smallest, hops):
    for n in (smallest, smallest + 1, 20, 21):
        task = make(n, num_graphs=5)
        assert pairs(task) == {(v, u) for u, v in pairs(task)}
        assert len(pairs(task)) == task.edge_index.shape[1]
        assert all(u != v for u, v in pairs(task))


# ---------------------------------------------------------------- the samples

@every_family
@pytest.mark.parametrize("num_classes", [2, 5, 7])
def test_features_follow_the_convention(make, smallest, hops, num_classes):
    task = make(smallest + 3, num_graphs=3 * num_classes, num_classes=num_classes)
    assert task.x.shape == (3 * num_classes, smallest + 3, num_classes) and task.x.dtype == torch.float32
    assert task.y.shape == (3 * num_classes,) and task.y.dtype == torch.int64
    assert torch.equal(task.x[:, task.source], torch.nn.functional.one_hot(task.y, num_classes).float())
    assert (task.x[:, task.target] == 0).all()
    others = [v for v in range(task.num_nodes) if v not in (task.source, task.target)]
    assert (task.x[:, others] == 1).all()


@every_family
def test_only_the_source_depends_on_the_class(make, smallest, hops):
    x = make(smallest + 5, num_graphs=20).distinct().x
    differs = (x[:, None] != x[None, :]).any(dim=(0, 1)).any(dim=-1)
    assert torch.nonzero(differs).flatten().tolist() == [make(smallest + 5, num_graphs=20).source]


@pytest.mark.parametrize("num_graphs", [5, 100, 103, 1000, 1001])
@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_classes_are_balanced(num_graphs, num_classes):
    task = ring_transfer(10, num_graphs=num_graphs, num_classes=num_classes)
    counts = torch.bincount(task.y, minlength=num_classes)
    assert counts.sum() == num_graphs == task.num_graphs
    assert counts.max() - counts.min() == (1 if num_graphs % num_classes else 0)
    assert task.chance == counts.max() / num_graphs
    if num_graphs % num_classes == 0:
        assert task.chance == 1 / num_classes


def test_seed_decides_the_order_of_the_classes_and_nothing_else():
    one, again, other = (crossed_ring_transfer(12, num_graphs=50, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.x, again.x) and torch.equal(one.y, again.y) and torch.equal(one.edge_index, again.edge_index)
    assert not torch.equal(one.y, other.y)
    assert torch.equal(one.y.sort().values, other.y.sort().values)
    assert torch.equal(one.distinct().x, other.distinct().x)


def test_making_a_task_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ring_transfer(10, num_graphs=50, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_distinct_samples_are_all_there_is():
    task = line_transfer(6, num_graphs=100, seed=2)
    few = task.distinct()
    assert few.y.tolist() == list(range(5)) and few.num_graphs == 5 and few.chance == 1 / 5
    assert torch.equal(task.x, few.x[task.y])
    assert torch.equal(few.distinct().x, few.x)


def test_distinct_samples_give_the_loss_and_gradient_of_the_balanced_task():
    task = ring_transfer(6, num_graphs=30, seed=1)
    layer = GCN(5, 5, activation="tanh").double()
    S = graphs.normalized_adjacency(task.edge_index, 6, dtype=torch.float64)
    found = []
    for part in (task, task.distinct()):
        loss = torch.nn.functional.cross_entropy(layer(layer(part.x.double(), S), S)[:, 2], part.y)
        found.append((loss, *torch.autograd.grad(loss, layer.weight)))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- what a network can know

def target_logits(task, depth, seed=0):
    """Logits at the target, one row for each class, each class on its own so that all are computed alike."""
    torch.manual_seed(seed)
    widths = [task.num_classes] + [8] * depth
    layers = [GCN(a, b, activation="tanh").double() for a, b in zip(widths, widths[1:], strict=False)]
    S = graphs.normalized_adjacency(task.edge_index, task.num_nodes, dtype=torch.float64)
    rows = []
    with torch.no_grad():
        for h in task.distinct().x.double():
            for layer in layers:
                h = layer(h, S)
            rows.append(h[task.target])
    return torch.stack(rows)


@every_family
def test_a_network_shallower_than_the_distance_answers_the_same_for_every_class(make, smallest, hops):
    for n in (max(smallest, 6), 11):
        task = make(n, num_graphs=20)
        for depth in range(1, task.distance):
            logits = target_logits(task, depth)
            assert torch.equal(logits, logits[:1].expand_as(logits)), (n, depth)
            answer = logits.argmax(dim=-1)[task.y]
            assert (answer == task.y).double().mean() <= task.chance


@every_family
def test_a_network_as_deep_as_the_distance_can_tell_the_classes_apart(make, smallest, hops):
    for n in (max(smallest, 6), 11):
        logits = target_logits(make(n, num_graphs=20), depth=hops(n))
        assert len(torch.unique(logits, dim=0)) == 5, n


# ---------------------------------------------------------------- torch-geometric and devices

@every_family
def test_data_and_compact_form_give_the_same_logits(make, smallest, hops):
    task = make(smallest + 4, num_graphs=12, num_classes=3, seed=1)
    torch.manual_seed(0)
    conv = GCNConv(3, 4).double()
    layer = GCN(3, 4, activation=None, bias=True).double()
    layer.load_state_dict({"weight": conv.lin.weight.T, "bias": conv.bias})
    batch = next(iter(DataLoader(task.data(), batch_size=12)))
    theirs = conv(batch.x.double(), batch.edge_index)
    assert torch.equal(batch.y, task.y)
    assert batch.target_mask.sum() == batch.source_mask.sum() == 12
    assert torch.equal(batch.x[batch.source_mask].argmax(1), task.y)
    S = graphs.normalized_adjacency(task.edge_index, task.num_nodes, dtype=torch.float64)
    ours = layer(task.x.double(), S)
    torch.testing.assert_close(theirs[batch.target_mask], ours[:, task.target], rtol=1e-12, atol=1e-12)


def test_data_is_one_graph_for_each_sample():
    task = clique_path_transfer(9, num_graphs=11)
    samples = task.data()
    assert len(samples) == 11
    for sample, x, y in zip(samples, task.x, task.y, strict=True):
        sample.validate()
        assert torch.equal(sample.x, x) and sample.y.item() == y and sample.num_nodes == 9
        assert not sample.has_self_loops() and sample.is_undirected()
        assert sample.target_mask.nonzero().item() == task.target
        assert sample.source_mask.nonzero().item() == task.source
        assert torch.equal(sample.edge_index, task.edge_index)


def test_to_moves_every_tensor():
    moved = ring_transfer(10, num_graphs=10).to("meta")
    assert isinstance(moved, TransferTask)
    assert {moved.x.device.type, moved.y.device.type, moved.edge_index.device.type} == {"meta"}
    assert moved.distance == 5


# ---------------------------------------------------------------- bad input

@pytest.mark.parametrize(("make", "smallest"), [(make, smallest) for make, smallest, _ in FAMILIES.values()], ids=FAMILIES)
def test_too_small_graphs_are_refused(make, smallest):
    make(smallest, num_graphs=5)
    with pytest.raises(ValueError, match=f"num_nodes must be at least {smallest}; it was {smallest - 1}"):
        make(smallest - 1, num_graphs=5)
    with pytest.raises(TypeError, match="num_nodes must be an integer"):
        make(10.0)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"num_classes": 1}, ValueError, "num_classes must be at least 2; it was 1"),
    ({"num_classes": 2.5}, TypeError, "num_classes must be an integer"),
    ({"num_graphs": 4}, ValueError, "num_graphs must be at least num_classes = 5"),
    ({"num_graphs": 6, "num_classes": 7}, ValueError, "num_graphs must be at least num_classes = 7"),
    ({"num_graphs": 0}, ValueError, "num_graphs must be at least"),
    ({"num_graphs": True}, TypeError, "num_graphs must be an integer"),
    ({"seed": -1}, ValueError, "seed must be an int from 0"),
    ({"seed": 0.5}, TypeError, "seed must be an int"),
])
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ring_transfer(10, **arguments)


def test_unknown_source_of_the_clique_path_is_named():
    with pytest.raises(ValueError, match="source must be one of 'path', 'clique'; it was 'head'"):
        clique_path_transfer(10, source="head")


def test_any_connected_graph_makes_a_task_and_bad_ends_are_refused():
    task = transfer_task("Barbell", graphs.barbell(4, 2), 10, source=0, target=9, num_graphs=5)
    assert task.distance == 5 and task.name == "Barbell"
    two_parts = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    with pytest.raises(ValueError, match="target must be connected to the source; there is no path from 0 to 2"):
        transfer_task("two parts", two_parts, 4, source=0, target=2)
    for target in (4, 0):
        with pytest.raises(ValueError, match="target must be a node from 0 to 3 other than source = 0"):
            transfer_task("two parts", two_parts, 4, source=0, target=target)
    with pytest.raises(ValueError, match="source must be a node"):
        transfer_task("two parts", two_parts, 4, source=4, target=0)
