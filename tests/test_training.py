"""The training loop: reproducible, resumable, stopped on validation only."""
import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN as GeometricGCN
from torch_geometric.nn import GCNConv

from gnnssm_lite import graphs
from gnnssm_lite.datasets import karate_club, ring_transfer
from gnnssm_lite.models import GNNSSM, Network, build, names, state_matrix
from gnnssm_lite.training import TrainingConfig, accuracy, fit, mean_squared_error, train_node_classifier, train_transfer


@pytest.fixture
def karate():
    data = karate_club()
    order = torch.randperm(34, generator=torch.Generator().manual_seed(0))
    for part, nodes in {"train": order[:10], "val": order[10:20], "test": order[20:]}.items():
        data[f"{part}_mask"] = torch.zeros(34, dtype=torch.bool).index_fill_(0, nodes, True)
    return data


def network(data, name="GCN", **options):
    return build(name, data.num_features, 2, 8, 2, dropout=0.5, **options)


def test_same_seed_gives_the_same_numbers_bit_for_bit(karate):
    config = TrainingConfig(max_epochs=15, seed=3)
    first, second = (train_node_classifier(network(karate), karate, config)["history"] for _ in range(2))
    assert first.equals(second)
    other = train_node_classifier(network(karate), karate, TrainingConfig(max_epochs=15, seed=4))["history"]
    assert not first.equals(other)


def test_training_leaves_the_global_generator_alone(karate):
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    train_node_classifier(network(karate), karate, TrainingConfig(max_epochs=2))
    assert torch.equal(torch.rand(1), expected)


class Interrupt(Exception):
    """Stands for a killed process."""


@pytest.mark.parametrize("die_at", [11, 25, 30])
def test_an_interrupted_run_ends_with_the_numbers_of_an_uninterrupted_one(karate, tmp_path, die_at):
    config = TrainingConfig(max_epochs=40, patience=40, seed=5)
    whole = network(karate)
    expected = train_node_classifier(whole, karate, config)
    checkpoint, calls = tmp_path / "run.pt", []

    def loss(model, mask):
        calls.append(1)
        if len(calls) > 2 * die_at:
            raise Interrupt
        return nn.functional.cross_entropy(model(karate.x, S)[mask], karate.y[mask])

    S = graphs.normalized_adjacency(karate.edge_index, 34, "sparse")
    with pytest.raises(Interrupt):
        fit(network(karate), lambda: [karate.train_mask], loss, lambda m: float(loss(m, karate.val_mask)), config, checkpoint)
    assert checkpoint.exists()
    resumed = network(karate)
    result = train_node_classifier(resumed, karate, config, checkpoint=checkpoint)
    assert result["history"].equals(expected["history"])
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_configuration_is_refused(karate, tmp_path):
    checkpoint = tmp_path / "run.pt"
    calls = []

    def validate(model):
        calls.append(1)
        if len(calls) > 12:
            raise Interrupt
        return 1.0 / len(calls)

    def loss(model, batch):
        return model(karate.x, S).square().mean()

    S = graphs.normalized_adjacency(karate.edge_index, 34)
    with pytest.raises(Interrupt):
        fit(network(karate), lambda: [0], loss, validate, TrainingConfig(max_epochs=20), checkpoint)
    with pytest.raises(ValueError, match="checkpoint must belong to this configuration"):
        fit(network(karate), lambda: [0], loss, validate, TrainingConfig(max_epochs=20, lr=0.5), checkpoint)


def test_stopping_uses_validation_and_returns_its_best_weights():
    model = nn.Linear(1, 1, bias=False)
    scores = iter([3.0, 1.0, 2.0, 2.0, 2.0, 0.0])
    weights = []

    def validate(module):
        weights.append(copy.deepcopy(module.state_dict()))
        return next(scores)

    result = fit(model, lambda: [0], lambda m, b: m.weight.square().sum(), validate, TrainingConfig(max_epochs=50, patience=3))
    assert (result.best_epoch, result.best_validation, len(result.history)) == (1, 1.0, 5)
    assert torch.equal(model.weight, weights[1]["weight"])


def test_labels_of_test_nodes_cannot_change_training(karate):
    config = TrainingConfig(max_epochs=10)
    first = train_node_classifier(network(karate), karate, config)
    karate.y[karate.test_mask] = 1 - karate.y[karate.test_mask]
    second = train_node_classifier(network(karate), karate, config)
    assert first["history"].equals(second["history"])
    assert first["test_accuracy"] == pytest.approx(1 - second["test_accuracy"])


def test_a_diverging_loss_is_reported_with_its_epoch():
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="nan in epoch 0"):
        fit(model, lambda: [0], lambda m, b: m.weight.sum() * float("nan"), lambda m: 0.0, TrainingConfig())


def test_a_validation_score_that_is_nan_is_reported_with_its_epoch():
    scores = iter([float("inf"), 2.0, float("nan")])  # infinite is a number: worse than any other
    with pytest.raises(FloatingPointError, match="validation score became nan in epoch 2"):
        fit(nn.Linear(1, 1), lambda: [0], lambda m, b: m.weight.sum(), lambda m: next(scores), TrainingConfig())
    scores = iter([float("inf"), 2.0])
    result = fit(nn.Linear(1, 1), lambda: [0], lambda m, b: m.weight.sum(), lambda m: next(scores), TrainingConfig(max_epochs=2))
    assert result.best_epoch == 1


def test_a_missing_mask_is_named(karate):
    with pytest.raises(ValueError, match="data must have the boolean masks .* it has no val_mask$"):
        train_node_classifier(network(karate), karate_club(), TrainingConfig(max_epochs=1))
    del karate.train_mask, karate.test_mask
    with pytest.raises(ValueError, match="it has no train_mask and no test_mask$"):
        train_node_classifier(network(karate), karate, TrainingConfig(max_epochs=1))


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="model must have parameters to train; Identity has none"):
        fit(nn.Identity(), lambda: [0], lambda m, b: torch.ones(1), lambda m: 0.0, TrainingConfig())


@pytest.mark.parametrize("options, message", [
    ({"lr": "0.1"}, "lr must be a number; it was '0.1' of type str"),
    ({"weight_decay": True}, "weight_decay must be a number; it was True"),
    ({"clip": "1"}, "clip must be a number; it was '1'"),
    ({"goal": "x"}, "goal must be a number; it was 'x'"),
])
def test_configurations_of_another_type_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        TrainingConfig(**options)


@pytest.mark.parametrize("options, message", [
    ({"max_epochs": 0}, "max_epochs must be at least 1; it was 0"),
    ({"patience": -1}, "patience must be at least 1"),
    ({"lr": float("nan")}, "lr must be finite"),
    ({"weight_decay": -1.0}, "weight_decay must be finite and at least 0; it was -1.0"),
    ({"clip": -1}, "clip must be None or above 0; it was -1"),
    ({"clip": 0.0}, "clip must be None or above 0; it was 0.0"),
    ({"clip": float("nan")}, "clip must be None or above 0; it was nan"),
    ({"goal": float("nan")}, "goal must be None or a number; it was nan"),
])
def test_bad_configurations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**options)


def test_accuracy_counts_right_rows():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    assert accuracy(logits, torch.tensor([0, 0, 0])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", names())
def test_every_registered_network_learns_the_karate_club(karate, name):
    karate.val_mask = karate.train_mask
    scores = train_node_classifier(build(name, 34, 2, 8, 2), karate, TrainingConfig(max_epochs=60))
    assert scores["train_accuracy"] > 0.85


def test_state_and_input_matrices_are_shared_by_layers_and_not_trained():
    model = build("GCN-SSM", 4, 2, 8, 3, kind="orthogonal", eig=0.9)
    assert all(torch.equal(layer.Lambda, model.layers[0].Lambda) for layer in model.layers)
    assert all(torch.equal(layer.B, model.layers[0].B) for layer in model.layers)
    trained = dict(model.named_parameters())
    assert not any("Lambda" in name or name.endswith(".B") for name in trained)
    assert sum(p.numel() for p in trained.values()) == sum(p.numel() for p in build("GCN", 4, 2, 8, 3).parameters())


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'GCN-SSM'"):
        build("GCNSSM", 4, 2, 8, 3)
    with pytest.raises(TypeError):
        build("GCN", 4, 2, 8, 3, no_such_option=1)
    with pytest.raises(ValueError, match="level must be one of 'node', 'graph'"):
        build("GCN", 4, 2, 8, 3, level="edge")


def test_sparse_features_give_the_numbers_of_dense_ones(karate):
    model = network(karate).eval()
    S = graphs.normalized_adjacency(karate.edge_index, 34, "sparse")
    assert torch.allclose(model(karate.x, S), model(graphs.to_sparse(karate.x), S), atol=1e-6)
    dropped = model.train().encode(graphs.to_sparse(karate.x))
    assert 5 < int((dropped == model.encoder.bias).all(1).sum()) < 30  # half of the one-hot rows are dropped


# ---------------------------------------------------------------- torch-geometric's models

def geometric(make, *sizes):
    torch.manual_seed(0)
    return make(*sizes)


GEOMETRIC = {
    "network": lambda p, c: Network(nn.Linear(p, 8), [GNNSSM(GCNConv(8, 8), state_matrix(8))], nn.Linear(8, c)),
    "model": lambda p, c: GeometricGCN(p, 8, 2, c), "layer": GCNConv,
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_models_of_torch_geometric_train_on_edge_index(karate, name):
    """Loss by loss that of training by hand on ``edge_index``; the sparse Â in its place trains without complaint."""
    config = TrainingConfig(max_epochs=5)
    scores = train_node_classifier(geometric(GEOMETRIC[name], 34, 2), karate, config)

    def loss(model, mask):
        return nn.functional.cross_entropy(model(karate.x, karate.edge_index)[mask], karate.y[mask])

    expected = fit(geometric(GEOMETRIC[name], 34, 2), lambda: [karate.train_mask], loss,
                   lambda m: float(loss(m, karate.val_mask)), config)
    assert scores["history"].equals(expected.history)


@pytest.mark.parametrize("name", GEOMETRIC)
def test_models_of_torch_geometric_learn_a_transfer_task(name):
    task = ring_transfer(4, num_graphs=3, num_classes=3)
    result = train_transfer(geometric(GEOMETRIC[name], 3, 3), task, TrainingConfig(max_epochs=5))
    assert result["epochs"] == 5 and result["history"].loss.iloc[-1] < result["history"].loss.iloc[0]


# ---------------------------------------------------------------- what users do by mistake

def _linear(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 1)


def _squares(target):
    return lambda model, x: ((model(x) - target) ** 2).mean()


def test_a_checkpoint_of_another_model_or_of_no_model_is_refused(tmp_path):
    x, path = torch.randn(8, 2), tmp_path / "run.checkpoint"
    config, loss = TrainingConfig(max_epochs=30, lr=0.1), _squares(torch.zeros(8, 1))

    def stop(model, epoch):
        if epoch == 12:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), config, path, watch=stop)
    with pytest.raises(ValueError, match="checkpoint must belong to this model; .* other weights"):
        fit(_linear(1), lambda: [x], loss, lambda m: float(loss(m, x)), config, path)
    assert len(fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), config, path).history) == 30
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="run.checkpoint cannot be read .* Delete it"):
        fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), config, path)
    with pytest.raises(ValueError, match="checkpoint must lie in an existing folder; it was .*nowhere"):
        fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), config, tmp_path / "nowhere" / "run.checkpoint")


def test_an_epoch_without_a_batch_is_refused_and_not_a_loss_of_zero():
    x, loss = torch.randn(8, 2), _squares(torch.zeros(8, 1))
    used_up = iter([x])
    with pytest.raises(ValueError, match="batches must give at least one batch in each epoch; in epoch 1 it gave none"):
        fit(_linear(0), lambda: used_up, loss, lambda m: float(loss(m, x)), TrainingConfig(max_epochs=3))


def test_masks_that_are_numbers_are_refused():
    data = karate_club()
    mask = torch.arange(34) % 3
    data.train_mask, data.val_mask, data.test_mask = (mask == 0).long(), mask == 1, mask == 2
    model = build("GCN", data.num_features, int(data.y.max()) + 1, 4, 1)
    with pytest.raises(ValueError, match=r"train_mask must be boolean with the shape \(34,\); it was torch.int64"):
        train_node_classifier(model, data, TrainingConfig(max_epochs=1))


@pytest.mark.parametrize("content", [torch.nn.Linear(2, 1).state_dict(), torch.ones(3), {"state": 3}])
def test_a_file_of_torch_that_is_no_checkpoint_is_refused(tmp_path, content):
    x, path = torch.ones(8, 2), tmp_path / "run.checkpoint"
    torch.save(content, path)
    loss = _squares(torch.zeros(8, 1))
    with pytest.raises(ValueError, match="checkpoint must be a file that fit wrote"):
        fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), TrainingConfig(max_epochs=2), path)


def test_numbers_of_numpy_and_torch_from_watch_survive_an_interruption(tmp_path):
    x, path, loss = torch.ones(8, 2), tmp_path / "run.checkpoint", _squares(torch.ones(8, 1))
    config = TrainingConfig(max_epochs=25)

    def watching(stop):
        def watch(model, epoch):
            if epoch == stop:
                raise KeyboardInterrupt
            return {"numpy": np.float64(epoch), "torch": model.weight.detach().sum()}
        return watch
    with pytest.raises(KeyboardInterrupt):
        fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), config, path, watch=watching(12))
    resumed = fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), config, path, watch=watching(99)).history
    at_once = fit(_linear(0), lambda: [x], loss, lambda m: float(loss(m, x)), config, watch=watching(99)).history
    assert resumed.equals(at_once) and list(resumed.numpy) == list(range(25)) and resumed.torch.dtype == float


def test_a_model_may_hold_a_sparse_operator(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = _linear(0)
            self.register_buffer("S", torch.eye(8).to_sparse_csr())

        def forward(self, x):
            return self.S @ self.linear(x)

    x, loss = torch.ones(8, 2), _squares(torch.zeros(8, 1))
    for checkpoint in (None, tmp_path / "run.checkpoint"):
        model = Fixed()
        result = fit(model, lambda: [x], loss, lambda m: float(loss(m, x)), TrainingConfig(max_epochs=12), checkpoint)
        assert len(result.history) == 12 and float(loss(model, x)) == result.best_validation < result.history.validation[0]


def test_the_error_of_no_batch_is_refused():
    with pytest.raises(ValueError, match="batches must hold at least one batch"):
        mean_squared_error(_linear(0), [])
