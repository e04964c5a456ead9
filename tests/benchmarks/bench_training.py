"""Training on many small graphs: batches of dense operators against torch-geometric's DataLoader and GCNConv.

    python tests/benchmarks/bench_training.py [--epochs 3]

Both train the same network (10 GCN layers of width 20, tanh, two-layer readout) on the same 5,120 graphs in batches of
512, with the same number of threads, in turn. Before the clock starts, both are shown to compute the same outputs.
"""
import argparse
import time

import torch
from torch import nn
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv

from gnnssm_lite import datasets
from gnnssm_lite.experiments.graph_properties import batches, network
from gnnssm_lite.training import Batch


class PlainGCN(nn.Module):
    """The network as a reader of torch-geometric's tutorial would write it."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.encoder, self.readout = twin.encoder, twin.readout
        self.convolutions = nn.ModuleList(GCNConv(20, 20, bias=False) for _ in twin.layers)
        for conv, layer in zip(self.convolutions, twin.layers, strict=True):
            conv.lin.weight.data = layer.weight.detach().T.clone()

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        h = self.encoder(x)
        for conv in self.convolutions:
            h = torch.tanh(conv(h, edge_index))
        return self.readout(h).squeeze(-1)


def dense_epoch(model: nn.Module, groups: list[Batch], optimizer: torch.optim.Optimizer) -> float:
    start = time.perf_counter()
    for i in torch.randperm(len(groups)).tolist():
        batch = groups[i]
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(batch.x, *batch.graph).squeeze(-1), batch.y).backward()
        optimizer.step()
    return time.perf_counter() - start


def plain_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> float:
    start = time.perf_counter()
    for batch in loader:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.mse_loss(model(batch.x, batch.edge_index), batch.sssp).backward()
        optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    """Print seconds an epoch of both ways, and the ratio of their medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs
    model = network("GCN", "sssp", 20, 10, 0)
    start = time.perf_counter()
    groups = batches(model, "sssp", 1.0, 1234)["train"]
    print(f"operators of 5,120 graphs, made once: {time.perf_counter() - start:.2f} s")
    graphs = datasets.graph_properties("train")
    plain = PlainGCN(model)
    first = next(iter(DataLoader(graphs, batch_size=len(groups[0].y))))
    gap = (plain(first.x, first.edge_index) - model(groups[0].x, *groups[0].graph).flatten()).abs().max()
    print(f"largest difference of outputs on {len(groups[0].y)} graphs: {gap.item():.1e}")
    assert gap < 1e-5
    loader = DataLoader(graphs, batch_size=512, shuffle=True)
    ours, theirs = (torch.optim.Adam(m.parameters(), lr=0.003) for m in (model, plain))
    dense, sparse = [], []
    for _ in range(epochs + 1):  # in turn, so that a slow minute of the machine slows both
        dense += [dense_epoch(model, groups, ours) for _ in range(3)]
        sparse.append(plain_epoch(plain, loader, theirs))
    dense, sparse = (torch.tensor(times).sort().values for times in (dense[3:], sparse[1:]))
    for name, times in (("dense batches of equal size", dense), ("DataLoader + GCNConv", sparse)):
        print(f"{name:28s} {times.median():.3f} s an epoch (fastest {times[0]:.3f}), {torch.get_num_threads()} threads")
    print(f"ratio of the medians: {sparse.median() / dense.median():.1f}, of the fastest: {sparse[0] / dense[0]:.1f}")


if __name__ == "__main__":
    main()
