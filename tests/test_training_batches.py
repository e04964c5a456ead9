"""Training on many small graphs and on transfer tasks: same numbers every time, errors as defined, stops where told."""
import math

import pandas as pd
import pytest
import torch

from gnnssm_lite import datasets, graphs
from gnnssm_lite.experiments import graph_properties as properties
from gnnssm_lite.experiments.transfer import TRANSFER_MODELS, ring_transfer_run
from gnnssm_lite.jacobian import layer_jacobian
from gnnssm_lite.models import build
from gnnssm_lite.spectra import edge_of_chaos_distance
from gnnssm_lite.training import (
    Batch,
    TrainingConfig,
    fit,
    mean_squared_error,
    shuffled,
    train_regression,
    train_transfer,
)


def batch(n, count, seed, level="node"):
    """Random graphs of ``n`` nodes; the target is the degree of a node, or the edges of a graph."""
    generator = torch.Generator().manual_seed(seed)
    A = (torch.rand(count, n, n, generator=generator) < 0.3).float().triu(1)
    A = A + A.mT
    y = A.sum(-1) / n if level == "node" else A.sum((-1, -2)) / n**2
    return Batch(torch.rand(count, n, 2, generator=generator), (graphs.batch_operator("adjacency", A),), y)


def splits(level="node"):
    return ([batch(6, 8, 0, level), batch(7, 8, 1, level), batch(8, 4, 2, level)], [batch(6, 5, 3, level)],
            [batch(7, 5, 4, level), batch(6, 3, 5, level)])


def network(level="node", seed=0):
    return build("GIN", 2, 1, 8, 2, level=level, readout="mlp", seed=seed)


@pytest.mark.parametrize("level", ["node", "graph"])
def test_same_seed_same_bits_another_seed_others(level):
    runs = [train_regression(network(level, seed), *splits(level), TrainingConfig(max_epochs=8, seed=seed))
            for seed in (1, 1, 2)]
    pd.testing.assert_frame_equal(runs[0]["history"], runs[1]["history"], check_exact=True)
    assert runs[0]["test_mse"] == runs[1]["test_mse"] != runs[2]["test_mse"]


@pytest.mark.parametrize("level", ["node", "graph"])
def test_training_lowers_the_error(level):
    model, (train, validation, test) = network(level), splits(level)
    before = mean_squared_error(model, test)
    scores = train_regression(model, train, validation, test, TrainingConfig(max_epochs=150, lr=0.01, weight_decay=0))
    assert scores["test_mse"] < 0.3 * before
    assert scores["val_mse"] == pytest.approx(scores["history"].validation.min(), rel=1e-6)


def test_the_error_weighs_graphs_not_batches():
    model, (_, _, test) = network(), splits()
    each = [((model(b.x[i], b.graph[0][i]).squeeze(-1) - b.y[i]) ** 2).mean().item() for b in test for i in range(len(b.y))]
    assert mean_squared_error(model, test) == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_the_order_of_batches_is_drawn_anew_each_epoch():
    seen = []
    model, (train, _validation, _) = network(), splits()

    def loss(model, b):
        seen.append(len(b.y) * 100 + b.x.shape[1])
        return model(b.x, *b.graph).square().mean()

    fit(model, shuffled(train), loss, lambda m: 0.0, TrainingConfig(max_epochs=12, patience=12))
    orders = {tuple(seen[i:i + 3]) for i in range(0, len(seen), 3)}
    assert len(orders) > 2 and all(sorted(order) == sorted(seen[:3]) for order in orders)


def test_watching_joins_the_history_and_changes_nothing_else():
    plain = train_regression(network(), *splits(), TrainingConfig(max_epochs=5))
    watched = train_regression(network(), *splits(), TrainingConfig(max_epochs=5),
                               watch=lambda model, epoch: {"square": epoch**2, "training": model.training})
    assert list(watched["history"].square) == [0, 1, 4, 9, 16] and not watched["history"].training.any()
    pd.testing.assert_frame_equal(watched["history"][plain["history"].columns], plain["history"], check_exact=True)


def test_a_goal_ends_training():
    task = datasets.ring_transfer(6, num_graphs=5)
    model = build("kGCN-SSM", 5, 5, 16, 3, activation="tanh")
    config = TrainingConfig(max_epochs=500, patience=500, lr=0.01, weight_decay=0, goal=0.05)
    result = train_transfer(model, task, config)
    assert result["loss"] <= 0.05 and result["accuracy"] == 1.0
    assert result["epochs"] < 500 and result["history"].validation.iloc[:-1].min() > 0.05


def test_a_ring_needs_as_many_layers_as_hops():
    task = datasets.ring_transfer(10, num_graphs=5)
    model = build("GCN", 5, 5, 16, 4, activation="tanh")
    result = train_transfer(model, task, TrainingConfig(max_epochs=60, lr=0.01, weight_decay=0))
    assert result["loss"] == pytest.approx(math.log(5), abs=1e-3)


def test_a_transfer_run_is_a_pure_function_of_its_configuration():
    config = {"model": "kGCN-SSM, eig(Λ) = 1, orthogonal", "num_nodes": 10, "seed": 1, "lr": 0.003, "hidden": 8,
              "epochs": 30, "patience": 30, "device": "cpu"}
    first, second = ring_transfer_run(**config), ring_transfer_run(**config)
    assert first == second
    assert first != ring_transfer_run(**config | {"seed": 2})


def test_every_transfer_model_can_be_built_and_learns_something_on_the_smallest_ring():
    for model in TRANSFER_MODELS:
        run = ring_transfer_run(model, 4, 0, 0.003, 16, 100, 100, "cpu")
        assert run["loss"] < math.log(5) - 0.05, model


# ---------------------------------------------------------------- graph properties

@pytest.fixture
def small_splits(monkeypatch):
    """Eight graphs of two sizes a split instead of thousands."""
    small = {split: [b[:8] for b in datasets.graph_property_batches(split)[:2]]
             for split in ("train", "validation", "test")}
    monkeypatch.setattr(properties, "_splits", lambda seed, device: small)


@pytest.mark.parametrize("target", ["eccentricity", "diameter"])
@pytest.mark.parametrize("model", properties.PROPERTY_MODELS)
def test_every_row_of_the_tables_trains_at_both_levels(small_splits, model, target):
    run = properties.graph_properties_run(model, target, 0, 8, 3, 0.003, 2, 2, True, 1234, "cpu")
    assert run["epochs"] == 2 and 0 < run["test_mse"] < math.inf
    assert run["maximum"] == pytest.approx(datasets.label_maximum()[target])
    assert len(run["history"]["validation"]) == 2


def test_errors_are_in_label_units_whatever_the_network_learns(small_splits):
    """A network that always answers zero has the mean square of the labels as its error, on either scale."""
    test = properties._splits(1234, "cpu")["test"]
    expected = sum(len(b) * b.labels["sssp"].square().mean().item() for b in test) / sum(map(len, test))
    for scale in (1.0, datasets.label_maximum()["sssp"]):
        model = properties.network("GCN", "sssp", 8, 2, 0)
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        data = properties.batches(model, "sssp", scale, 1234)
        assert mean_squared_error(model, data["test"]) * scale**2 == pytest.approx(expected, rel=1e-5)


def test_the_distance_to_the_edge_of_chaos_is_that_of_the_layers_jacobians(small_splits):
    model = properties.network("GCN-SSM, eig(Λ) = 1, orthogonal", "sssp", 6, 2, 0)
    data = properties.batches(model, "sssp", 1.0, 1234)["validation"]
    expected = []
    for b in data:
        S, h = b.graph[0][0].double(), model.double().encode(b.x[0].double())
        for layer in model.layers:
            expected.append(edge_of_chaos_distance(torch.linalg.eigvals(layer_jacobian(layer, h, S))))
            h = layer(h, S)
    found = properties.edge_distance(model.float(), data)
    assert found == pytest.approx(sum(expected) / len(expected), rel=1e-6)


@pytest.mark.parametrize("model", [m for m in properties.PROPERTY_MODELS if m != "DRew-GCN + delay"])
def test_every_model_has_a_distance_to_the_edge_of_chaos(small_splits, model):
    net = properties.network(model, "sssp", 8, 2, 0)
    assert 0 <= properties.edge_distance(net, properties.batches(net, "sssp", 1.0, 1234)["validation"]) < 10


def test_networks_start_where_the_experiment_says(small_splits):
    """Before any step, on the graphs that are looked at after training, and for the layers of the right readout."""
    found = {level: properties.initial_edge_distance_run("GCN-SSM", level, 1, 8, 2, 1234, "cpu")["edge_distance"]
             for level in ("node", "graph")}
    for level, target in (("node", "laplacian"), ("graph", "diameter")):
        net = properties.network("GCN-SSM", target, 8, 2, 1)
        assert found[level] == properties.edge_distance(net, properties.batches(net, target, 1.0, 1234)["validation"])
    assert found["node"] != found["graph"]


def test_damping_moves_adgn_off_the_edge_of_chaos_and_its_run_says_so(small_splits):
    runs = {gamma: properties.adgn_gamma_run(gamma, "sssp", 0, 2, 8, 3, 0.003, 5, 5, 1234, "cpu") for gamma in (0.0, 1.0)}
    assert runs[1.0]["edge_distance_at_first"] > runs[0.0]["edge_distance_at_first"]
    assert runs[0.0]["history"]["epoch"] == [0, 2, 4]
    assert all(value >= 0 for value in runs[0.0]["history"]["edge_distance"])


def test_the_loader_score_is_the_mean_over_batches_of_512():
    """Against a loop over the test set in loader batches, for the answer 'the mean of the training labels'."""
    test = datasets.graph_property_batches("test")
    errors = {b.num_nodes: ((b.labels["sssp"] - 3.0) ** 2).mean(-1) for b in test}
    everything = torch.cat([errors[n] for n in sorted(errors)])
    expected = torch.stack([part.mean() for part in everything.split(512)]).mean().item()
    runs = pd.DataFrame([{f"test_mse_{n}": error.mean().item() for n, error in errors.items()}])
    assert properties.loader_score(runs)[0] == pytest.approx(expected, rel=1e-6)
    assert properties.loader_score(runs)[0] != pytest.approx(everything.mean().item(), rel=1e-3)


def test_errors_by_size_average_to_the_error(small_splits):
    run = properties.graph_properties_run("GCN", "sssp", 0, 8, 2, 0.003, 2, 2, True, 1234, "cpu")
    by_size = [value for name, value in run.items() if name.startswith("test_mse_")]
    assert len(by_size) == 2 and sum(by_size) / 2 == pytest.approx(run["test_mse"], rel=1e-5)


def test_targets_of_another_shape_and_empty_parts_are_refused():
    """A loss would broadcast ``(b, 1)`` against ``(b,)`` and return a number."""
    x, S = torch.randn(6, 4, 2), torch.eye(4).expand(6, 4, 4)
    model, config = build("GCN", 2, 1, 4, 1, level="graph"), TrainingConfig(max_epochs=1)
    right, wrong = (Batch(x, (S,), torch.zeros(shape)) for shape in ((6,), (6, 1)))
    train_regression(model, [right], [right], [right], config)
    with pytest.raises(ValueError, match=r"y of a batch must have the shape \(6,\) of the model's outputs; its shape was \(6, 1\)"):
        train_regression(model, [wrong], [right], [right], config)
    with pytest.raises(ValueError, match="test must hold at least one batch; it was empty"):
        train_regression(model, [right], [right], [], config)
