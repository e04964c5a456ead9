"""The one training loop: seeded, stopped early on validation only, resumable, with a progress bar."""
from __future__ import annotations

import copy
import hashlib
import io
import math
import numbers
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch_geometric.data import Data
from tqdm.auto import tqdm

from .checks import check_int
from .datasets.cache import write_atomic
from .datasets.transfer import TransferTask
from .device import fork_rng, get_rng_state, set_rng_state
from .graphs import operator
from .models.recurrence import operator_of


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Every field is recorded with a result.

    Attributes:
        max_epochs: upper limit.
        patience: epochs without a better validation score before stopping.
        lr: learning rate of Adam.
        weight_decay: of Adam, on all parameters.
        seed: of torch's generators during training, so of dropout and of the order of batches that torch draws.
        clip: largest gradient norm, above 0; ``None`` for no clipping.
        goal: stop as soon as the validation score is at most this; ``None`` to go on.

    Raises:
        TypeError, ValueError: a field that is no such number.
    """

    max_epochs: int = 200
    patience: int = 100
    lr: float = 0.01
    weight_decay: float = 5e-4
    seed: int = 0
    clip: float | None = None
    goal: float | None = None

    def __post_init__(self) -> None:
        check_int("max_epochs", self.max_epochs, 1)
        check_int("patience", self.patience, 1)
        check_int("seed", self.seed, 0)
        for name in ("lr", "weight_decay"):
            value = _check_real(name, getattr(self, name))
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and at least 0; it was {value}")
        if self.clip is not None and not _check_real("clip", self.clip) > 0:
            raise ValueError(f"clip must be None or above 0; it was {self.clip}")
        if self.goal is not None and math.isnan(_check_real("goal", self.goal)):
            raise ValueError(f"goal must be None or a number; it was {self.goal}")


def _check_real(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number; it was {value!r} of type {type(value).__name__}")
    return value


@dataclass(frozen=True)
class TrainingResult:
    """What training gave: the best epoch by validation, and the history, a row an epoch."""

    best_epoch: int
    best_validation: float
    history: pd.DataFrame


def fit(model: nn.Module, batches: Callable[[], Iterable], loss: Callable[[nn.Module, object], Tensor],
        validate: Callable[[nn.Module], float], config: TrainingConfig, checkpoint: str | os.PathLike | None = None,
        progress: bool = False, watch: Callable[[nn.Module, int], dict] | None = None) -> TrainingResult:
    """Train ``model`` in place; it ends with the weights of its best validated epoch.

    Args:
        model: any module.
        batches: called once an epoch, gives the batches, one at least.
        loss: ``loss(model, batch)``, a scalar to descend.
        validate: ``validate(model)``, lower is better, called in ``eval`` mode without gradients. It must not look at
            test data.
        config: see :class:`TrainingConfig`.
        checkpoint: a file in an existing folder, for this model and these data alone, from which an interrupted run
            continues: with the same numbers as an uninterrupted one, if what is random comes from torch's generators. It
            is written atomically after every tenth epoch and removed at the end.
        progress: show a progress bar.
        watch: ``watch(model, epoch)``, called after each validation in ``eval`` mode; what it returns joins the history.

    Raises:
        FloatingPointError: the loss became NaN or infinite, or the validation score NaN, with the epoch. An infinite
            score is no error: it is worse than any other.
        ValueError: the model has no parameters; an epoch has no batch; the checkpoint cannot be read, lies in no folder, or
            belongs to another configuration or to a model that starts from other weights.
    """
    device, start = _device_of(model), _fingerprint(model) if checkpoint is not None else ""
    if checkpoint is not None and not Path(checkpoint).resolve().parent.is_dir():
        raise ValueError(f"checkpoint must lie in an existing folder; it was {os.fspath(checkpoint)!r}")
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    state = {"epoch": 0, "best_epoch": -1, "best": float("inf"), "weights": None, "history": []}
    with fork_rng(device):
        torch.manual_seed(config.seed)
        if checkpoint is not None and Path(checkpoint).exists():
            state = _resume(Path(checkpoint), model, optimizer, config, device, start)
        bar = tqdm(total=config.max_epochs, initial=state["epoch"], desc="training", disable=not progress, leave=False)
        while _goes_on(state, config):
            training_loss = _epoch(model, batches(), loss, optimizer, config, state["epoch"])
            model.eval()
            with torch.no_grad():
                score = _checked_score(validate(model), state["epoch"])
            seen = {key: _python(value) for key, value in (watch(model, state["epoch"]) or {}).items()} if watch else {}
            state["history"].append({"epoch": state["epoch"], "loss": training_loss, "validation": score} | seen)
            if score < state["best"]:
                state |= {"best": score, "best_epoch": state["epoch"], "weights": _copied(model.state_dict())}
            state["epoch"] += 1
            bar.update()
            bar.set_postfix(validation=f"{score:.4g}", best=f"{state['best']:.4g}")
            if checkpoint is not None and state["epoch"] % 10 == 0:
                _save(Path(checkpoint), model, optimizer, config, device, state | {"start": start})
        bar.close()
    if state["weights"] is not None:
        model.load_state_dict(state["weights"])
    if checkpoint is not None:
        Path(checkpoint).unlink(missing_ok=True)
    return TrainingResult(state["best_epoch"], state["best"], pd.DataFrame(state["history"]))


def _device_of(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError(f"model must have parameters to train; {type(model).__name__} has none")
    return parameter.device


def _fingerprint(model: nn.Module) -> str:
    """A hash of the weights from which the model starts."""
    content = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and not is_lazy(value):
            dense = value.detach().to_dense() if value.layout != torch.strided else value.detach()
            content.update(name.encode() + dense.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def _copied(weights: dict) -> dict:
    """A copy of a model's state; ``copy.deepcopy`` alone knows no sparse tensors."""
    return {name: value.clone() if isinstance(value, Tensor) and not is_lazy(value) else copy.deepcopy(value)
            for name, value in weights.items()}


def _python(value: object) -> object:
    """A number of numpy or torch as Python's: a checkpoint is read by a loader that knows no other."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _checked_score(score: object, epoch: int) -> float:
    if math.isnan(score := float(score)):  # NaN compares with nothing: the best epoch would stay as it is
        raise FloatingPointError(f"the validation score became nan in epoch {epoch}")
    return score


def _goes_on(state: dict, config: TrainingConfig) -> bool:
    if config.goal is not None and state["best"] <= config.goal:
        return False
    return state["epoch"] < config.max_epochs and state["epoch"] - state["best_epoch"] <= config.patience


def _epoch(model: nn.Module, batches: Iterable, loss: Callable, optimizer: torch.optim.Optimizer, config: TrainingConfig,
           epoch: int) -> float:
    model.train()
    total, count = 0.0, 0
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        value = loss(model, batch)
        if not torch.isfinite(value):
            raise FloatingPointError(f"the training loss became {value.item()} in epoch {epoch}")
        value.backward()
        if config.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        total, count = total + value.item(), count + 1
    if not count:
        raise ValueError(f"batches must give at least one batch in each epoch; in epoch {epoch} it gave none (an iterator "
                         "that was used up, or a loader that drops its only batch?)")
    return total / count


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainingConfig, device: torch.device,
          state: dict) -> None:
    content = {"config": asdict(config), "model": model.state_dict(), "optimizer": optimizer.state_dict(),
               "rng": get_rng_state(device), "state": state}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, config: TrainingConfig,
            device: torch.device, start: str) -> dict:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(content, dict) or set(content) != {"config", "model", "optimizer", "rng", "state"}:
            raise ValueError("it holds something else")
    except Exception as error:  # torch has no one error for a file that is not whole
        raise ValueError(f"checkpoint must be a file that fit wrote; {path} cannot be read ({error}). Delete it to start "
                         "this run anew") from error
    if content["state"].pop("start", start) != start:
        raise ValueError(f"checkpoint must belong to this model; {path} is of a run that started from other weights")
    if content["config"] != asdict(config):
        raise ValueError(f"checkpoint must belong to this configuration, {asdict(config)}; {path} holds {content['config']}")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    set_rng_state(device, content["rng"])
    return content["state"]


def accuracy(logits: Tensor, y: Tensor) -> float:
    """Share of rows whose largest logit is at the right class."""
    return float((logits.argmax(-1) == y).float().mean())


def _graph_arguments(model: nn.Module, data: Data | TransferTask, layout: str) -> tuple:
    """What ``model`` takes beside features; if it does not say, ``(edge_index,)`` for torch-geometric's and ``(Â,)``."""
    if hasattr(model, "graph_arguments"):
        return model.graph_arguments(data.edge_index, data.num_nodes, layout, data.x.dtype)
    kind = operator_of(model)
    if kind == "edge_index":
        return (data.edge_index,)
    return (operator(kind, data.edge_index, data.num_nodes, layout, data.x.dtype),)


def train_node_classifier(model: nn.Module, data: Data, config: TrainingConfig, *, layout: str = "sparse",
                          checkpoint: str | os.PathLike | None = None, progress: bool = False) -> dict[str, object]:
    """Train ``model(x, S)`` on the nodes of ``data.train_mask``, stop on ``val_mask``, and only then look at ``test_mask``.

    Args:
        model: called as ``model(x, S)``, ``S`` the operator that its ``operator`` attribute names (``Â`` if it has none);
            as ``model(x, edge_index)`` if it is made of torch-geometric's layers
            (:func:`~gnnssm_lite.models.recurrence.operator_of`).
        data: with ``x, edge_index, y`` and the three masks, on the model's device.
        config, checkpoint, progress: as :func:`fit`.
        layout: of ``S``.

    Returns:
        ``{"train_accuracy", "val_accuracy", "test_accuracy", "best_epoch", "epochs", "history"}``; accuracies are shares
        between 0 and 1 of the weights with the lowest validation loss.

    Raises:
        ValueError: a mask is missing or not boolean of shape ``(n,)``. As :func:`fit`, too.
    """
    missing = [name for name in ("train_mask", "val_mask", "test_mask") if name not in data]
    if missing:
        raise ValueError("data must have the boolean masks train_mask, val_mask and test_mask over its nodes; "
                         f"it has no {' and no '.join(missing)}")
    for name in ("train_mask", "val_mask", "test_mask"):  # integers would be taken for the numbers of nodes
        if data[name].dtype != torch.bool or data[name].shape != (data.num_nodes,):
            raise ValueError(f"{name} must be boolean with the shape ({data.num_nodes},); it was {data[name].dtype} with "
                             f"the shape {tuple(data[name].shape)}")
    graph = _graph_arguments(model, data, layout)
    cross_entropy = nn.functional.cross_entropy

    def loss(model: nn.Module, mask: Tensor) -> Tensor:
        return cross_entropy(model(data.x, *graph)[mask], data.y[mask])

    result = fit(model, lambda: [data.train_mask], loss, lambda m: float(loss(m, data.val_mask)), config, checkpoint,
                 progress)
    model.eval()
    with torch.no_grad():
        logits = model(data.x, *graph)
    scores = {f"{part}_accuracy": accuracy(logits[data[f"{part}_mask"]], data.y[data[f"{part}_mask"]])
              for part in ("train", "val", "test")}
    return scores | {"best_epoch": result.best_epoch, "epochs": len(result.history), "history": result.history}


@dataclass(frozen=True)
class Batch:
    """Graphs of one size with what a network takes: no padding, and operators made once, not in every step.

    Attributes:
        x: ``(b, n, p)`` features. graph: what a network takes beside them, ``(S,)`` or ``(shells,)`` of dense batches.
        y: targets, ``(b, n)`` for node tasks, ``(b,)`` for graph tasks; classes as integers.
    """

    x: Tensor
    graph: tuple
    y: Tensor


def mean_squared_error(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Mean over all graphs of the squared error, which for node tasks is a graph's mean over its nodes.

    Raises:
        ValueError: there is no batch, or targets have another shape than outputs.
    """
    if not len(batches):
        raise ValueError("batches must hold at least one batch; it was empty")
    model.eval()
    with torch.no_grad():
        total = sum(len(b.y) * nn.functional.mse_loss(_outputs(model, b), b.y).double() for b in batches)
    return float(total / sum(len(b.y) for b in batches))


def _outputs(model: nn.Module, batch: Batch) -> Tensor:
    out = model(batch.x, *batch.graph).squeeze(-1)
    if out.shape != batch.y.shape:  # the loss would broadcast and return a number
        raise ValueError(f"y of a batch must have the shape {tuple(out.shape)} of the model's outputs; "
                         f"its shape was {tuple(batch.y.shape)}")
    return out


def shuffled(batches: Sequence[Batch]) -> Callable[[], list[Batch]]:
    """The batches in a new random order each time (torch's global generator, which :func:`fit` seeds)."""
    return lambda: [batches[i] for i in torch.randperm(len(batches)).tolist()]


def train_regression(model: nn.Module, train: Sequence[Batch], validation: Sequence[Batch], test: Sequence[Batch],
                     config: TrainingConfig, *, checkpoint: str | os.PathLike | None = None, progress: bool = False,
                     watch: Callable[[nn.Module, int], dict] | None = None) -> dict[str, object]:
    """Train ``model`` on many small graphs to the mean squared error; stop on ``validation``, only then look at ``test``.

    Every batch holds graphs of one size, so a step is one set of dense products for all of them. The order of the batches
    is random, who shares a batch is not.

    Args:
        model: ``model(x, *graph) -> (b, n, 1)`` or ``(b, 1)``.
        train, validation, test: batches on the model's device.
        config, checkpoint, progress, watch: as :func:`fit`.

    Returns:
        ``{"train_mse", "val_mse", "test_mse", "best_epoch", "epochs", "history"}``, the errors those of the weights with
        the lowest validation error, in the units of ``y`` squared.

    Raises:
        ValueError: targets that do not have the shape of the outputs; no test batch. As :func:`fit`, too.
    """
    for name, given in (("train", train), ("validation", validation), ("test", test)):
        if not len(given):
            raise ValueError(f"{name} must hold at least one batch; it was empty")

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.mse_loss(_outputs(model, batch), batch.y)

    result = fit(model, shuffled(train), loss, lambda m: mean_squared_error(m, validation), config, checkpoint, progress,
                 watch)
    scores = {f"{part}_mse": mean_squared_error(model, batches)
              for part, batches in (("train", train), ("val", validation), ("test", test))}
    return scores | {"best_epoch": result.best_epoch, "epochs": len(result.history), "history": result.history}


def train_transfer(model: nn.Module, task: TransferTask, config: TrainingConfig, *,
                   checkpoint: str | os.PathLike | None = None, progress: bool = False) -> dict[str, object]:
    """Train ``model`` to name the source's class at the target of a transfer task.

    A task has one input for each class, so a step sees all there is, and training, validation and test are the same
    inputs: the result says whether a signal can be learnt across the graph, not how it generalises.

    Args:
        model: ``model(x, *graph) -> (b, n, classes)``; ``graph`` as in :func:`train_node_classifier`, with a dense ``S``.
        task: on the model's device (:func:`gnnssm_lite.datasets.ring_transfer`).
        config, checkpoint, progress: as :func:`fit`; an epoch is one step.

    Returns:
        ``{"accuracy", "loss", "best_epoch", "epochs", "history"}`` of the weights with the lowest loss.
    """
    one = task.distinct()
    graph = _graph_arguments(model, one, "dense")

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x, *graph)[:, one.target], one.y)

    result = fit(model, lambda: [one.x], loss, lambda m: float(loss(m, one.x)), config, checkpoint, progress)
    model.eval()
    with torch.no_grad():
        logits = model(one.x, *graph)[:, one.target]
    return {"accuracy": accuracy(logits, one.y), "loss": result.best_validation, "best_epoch": result.best_epoch,
            "epochs": len(result.history), "history": result.history}
