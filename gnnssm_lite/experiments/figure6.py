"""The paper's figure 6: Jacobian spectra of GCN, GIN and GatedGCN on Cora before and after training (chapter 3)."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import Data
from tqdm.auto import tqdm

from .. import datasets, graphs, jacobian
from ..models import build
from ..models.networks import Network
from ..training import TrainingConfig, train_node_classifier

MODELS = ("GCN", "GIN", "GatedGCN")
# reduced options of each experiment, for a quick look
QUICK = {"trained_jacobians": {"models": ("GCN",), "seeds": (0,), "hidden": 4, "num_layers": 1, "epochs": 5}}


def trained_model(name: str, data: Data, hidden: int, num_layers: int, epochs: int,
                  seed: int) -> tuple[Network, Network]:
    """The network at its initialisation, and the same network trained."""
    options = {"in_dim": data.num_features, "out_dim": int(data.y.max()) + 1, "hidden_dim": hidden,
               "num_layers": num_layers, "dropout": 0.5, "seed": seed, "activation": "tanh"}
    before, after = build(name, **options).to(data.x.device), build(name, **options).to(data.x.device)
    train_node_classifier(after, data, TrainingConfig(max_epochs=epochs, patience=epochs, seed=seed))
    return before.eval(), after.eval()


def _spectra(models: Sequence[str], seeds: Sequence[int], hidden: int, num_layers: int, epochs: int, device: str,
             progress: bool):
    data = datasets.load_cora(normalize_features=True).to(device)
    data.x = graphs.to_sparse(data.x)
    for name in tqdm(models, desc="trained Jacobians", disable=not progress):
        for seed in seeds:
            before, after = trained_model(name, data, hidden, num_layers, epochs, seed)
            for stage, model in (("before", before), ("after", after)):
                S = graphs.operator(model.operator, data.edge_index, data.num_nodes, "sparse", torch.float64)
                model = model.double()
                h = model.encode(data.x.double()).detach()
                for k, layer in enumerate(model.layers, start=1):
                    # many steps: norms near 30 beside values near zero need resolution
                    density = jacobian.spectral_density(layer, h, S, num_probes=2, num_steps=200, seed=seed)
                    # Cora has many components, hence a cluster of values near the largest: four digits can be had
                    norm = jacobian.spectral_norm(layer, h, S, tol=1e-4)
                    yield {"model": name, "seed": seed, "stage": stage, "layer": k}, density, norm
                    h = layer(h, S).detach()


def trained_jacobians(models: Sequence[str] = MODELS, seeds: Sequence[int] = (0, 1, 2, 3), hidden: int = 32,
                      num_layers: int = 2, epochs: int = 100, device: str = "cpu", progress: bool = False) -> pd.DataFrame:
    """Norm and spread of each layer's Jacobian, and histograms of its squared singular values.

    Returns:
        rows with ``quantity`` in ``norm`` (largest singular value), ``mean`` (of squared singular values), ``share below
        0.01``, and ``density`` (``position`` is the bin's left edge in ``log10 γ``, ``value`` its mass).
    """
    edges = np.linspace(-8, 3, 111)
    rows = []
    for key, density, norm in _spectra(models, seeds, hidden, num_layers, epochs, device, progress):
        summary = {"norm": norm, "mean": density.moment(1), "share below 0.01": float(density.cdf(0.01))}
        rows += [key | {"quantity": quantity, "position": np.nan, "value": value} for quantity, value in summary.items()]
        logs = np.log10(np.clip(density.nodes, 10 ** edges[0], 10 ** edges[-1]))
        mass, _ = np.histogram(logs, bins=edges, weights=density.weights)
        rows += [key | {"quantity": "density", "position": left, "value": value}
                 for left, value in zip(edges[:-1], mass, strict=True) if value > 0]
    return pd.DataFrame(rows)
