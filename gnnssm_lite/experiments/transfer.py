"""Section 5 of the paper: how far a class can be sent around a ring (the paper's figure 5, chapter 9)."""
from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import pandas as pd

from ..datasets import ring_transfer
from ..device import flush_denormals
from ..models import Network, build
from ..training import TrainingConfig, train_transfer
from .runner import chosen, grid, sweep

EIGS = (0.5, 0.75, 0.9, 1.0)
# reduced options of each experiment, for a quick look
QUICK = {"ring_transfer_accuracy": {"models": ("GCN", "k-hop GCN"), "sizes": (6,), "seeds": (0,), "lrs": (0.003,),
                                    "hidden": 8, "epochs": 20}}
# label -> (registry name, options of the layers)
TRANSFER_MODELS: dict[str, tuple[str, dict]] = {
    "GCN": ("GCN", {}),
    "GCN + residual": ("GCN-residual", {}),
    "k-hop GCN": ("kGCN", {}),
} | {
    f"GCN-SSM, eig(Λ) = 1, {kind}": ("GCN-SSM", {"kind": kind, "eig": 1.0}) for kind in ("identity", "orthogonal")
} | {
    f"kGCN-SSM, eig(Λ) = {eig:g}, {kind}": ("kGCN-SSM", {"kind": kind, "eig": eig})
    for kind in ("identity", "orthogonal") for eig in EIGS
} | {
    f"kGCN-SSM, eig(Λ) = 1, {kind}, source from the input": ("kGCN-SSM", {"kind": kind, "eig": 1.0, "source": "input"})
    for kind in ("identity", "orthogonal")
}


def network(model: str, layers: int, hidden: int, seed: int, num_classes: int = 5) -> Network:
    """The network of a recorded run before training; ``Λ`` and ``B`` share its seed, as in ``graph_properties.network``."""
    name, options = TRANSFER_MODELS[model]
    return build(name, num_classes, num_classes, hidden, layers, seed=seed, state_seed=seed, activation="tanh", **options)


def ring_transfer_run(model: str, num_nodes: int, seed: int, lr: float, hidden: int, epochs: int, patience: int,
                      device: str, checkpoint: str | None = None) -> dict[str, object]:
    """One run: ``num_nodes // 2`` layers, so that the last one is the first that can know the class without shells."""
    flush_denormals()
    task = ring_transfer(num_nodes, num_graphs=5).to(device)
    net = network(model, task.distance, hidden, seed, task.num_classes).to(device)
    config = TrainingConfig(max_epochs=epochs, patience=patience, lr=lr, weight_decay=0.0, seed=seed, clip=1.0, goal=0.01)
    scores = train_transfer(net, task, config, checkpoint=checkpoint)
    history = scores.pop("history")
    return scores | {"distance": task.distance, "history": history.to_dict("list")}


def ring_transfer_accuracy(models: Sequence[str] = tuple(TRANSFER_MODELS),
                           sizes: Sequence[int] = (10, 20, 30, 40, 50, 60, 70), seeds: Sequence[int] = (0, 1, 2, 3),
                           lrs: Sequence[float] = (0.001, 0.003), hidden: int = 64, epochs: int = 1000,
                           patience: int = 300, device: str = "cpu", jobs: int = 1, executor: Executor | None = None,
                           progress: bool = False) -> pd.DataFrame:
    """Accuracy on RingTransfer by ring size.

    Every learning rate is run; ``chosen`` marks, for each model and size, the one with the lower mean loss over seeds.
    The task has five inputs in all, so there is no held-out set that this choice could spoil.

    Returns:
        a row a run: model, num_nodes, seed, lr, accuracy, loss (0.01 ends a run), epochs (steps), distance.
    """
    runs = grid(seed=seeds, num_nodes=sizes, model=models, lr=lrs, hidden=[hidden], epochs=[epochs], patience=[patience],
                device=[device])
    frame = sweep("ring_transfer", ring_transfer_run, runs, progress=progress, jobs=jobs, executor=executor)
    frame["chosen"] = chosen(frame, ["model", "num_nodes"], "lr", "loss")
    return frame
