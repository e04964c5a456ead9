"""Section 4 of the paper: what depth does to accuracy on Cora (the paper's figure 4, chapter 6)."""
from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor

import pandas as pd

from .. import datasets, graphs
from ..models import build
from ..training import TrainingConfig, train_node_classifier
from .runner import chosen, grid, sweep

# label -> (registry name, options of the layers)
DEPTH_MODELS: dict[str, tuple[str, dict]] = {
    "GCN": ("GCN", {}),
    "GCN + residual": ("GCN-residual", {}),
    "GCN-SSM": ("GCN-SSM", {"kind": "uniform"}),
    "GCN-SSM, eig(Λ) = 1, identity": ("GCN-SSM", {"kind": "identity", "eig": 1.0}),
    "GCN-SSM, eig(Λ) = 1, orthogonal": ("GCN-SSM", {"kind": "orthogonal", "eig": 1.0}),
}

# reduced options of each experiment, for a quick look
QUICK = {"cora_depth": {"models": ("GCN", "GCN-SSM"), "depths": (2, 4), "seeds": (0,), "hidden": 8, "lrs": (0.01,),
                        "epochs": 5}}


def cora_depth_run(model: str, depth: int, seed: int, hidden: int, lr: float, epochs: int, patience: int,
                   device: str, checkpoint: str | os.PathLike | None = None) -> dict[str, object]:
    """One run: accuracies of one model at one depth, with the weights of the lowest validation loss."""
    data = datasets.load_cora(normalize_features=True).to(device)
    data.x = graphs.to_sparse(data.x)
    name, options = DEPTH_MODELS[model]
    network = build(name, data.num_features, data.num_classes, hidden, depth, dropout=0.5, seed=seed, state_seed=seed,
                    activation="tanh", **options).to(device)  # state_seed: see graph_properties.network
    config = TrainingConfig(max_epochs=epochs, patience=patience, lr=lr, weight_decay=5e-4, seed=seed)
    scores = train_node_classifier(network, data, config, checkpoint=checkpoint)
    history = scores.pop("history")
    return scores | {"split": data.split, "best_validation_loss": float(history.validation.min()), "history": history}


def cora_depth(models: Sequence[str] = tuple(DEPTH_MODELS), depths: Sequence[int] = (2, 4, 8, 16, 32, 64),
               seeds: Sequence[int] = (0, 1, 2, 3), hidden: int = 32, lrs: Sequence[float] = (0.01, 0.002),
               epochs: int = 200, patience: int = 50, device: str = "cpu", jobs: int = 1,
               executor: Executor | None = None, progress: bool = False) -> pd.DataFrame:
    """Node-classification accuracy on Cora by depth.

    For each model, depth and seed every learning rate is run; ``chosen`` marks, for each model and depth, the learning
    rate with the lower mean validation loss. The test set takes no part in that choice.

    Returns:
        a row a run, see :func:`cora_depth_run`; a rerun continues where an interrupted one stopped.
    """
    runs = grid(seed=seeds, depth=depths, model=models, lr=lrs, hidden=[hidden], epochs=[epochs], patience=[patience],
                device=[device])
    frame = sweep("cora_depth", cora_depth_run, runs, progress=progress, jobs=jobs, executor=executor)
    frame["chosen"] = chosen(frame, ["model", "depth"], "lr", "best_validation_loss")
    return frame
