"""What an epoch on many small graphs costs, in dense batches and the plain way, and where the time goes (chapter 9)."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pandas as pd
import torch
from torch import Tensor, nn
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv

from .. import datasets
from .graph_properties import batches, network

QUICK = {"training_speed": {"repeats": 1}}  # reduced options, for a quick look
WAYS = ("dense batches", "DataLoader + GCNConv")
PARTS = {"aten::bmm": "products with operators", "aten::mm": "products with weights", "aten::addmm": "products with weights",
         "aten::tanh": "activation", "aten::tanh_backward": "activation"}


class PlainGCN(nn.Module):
    """The network as torch-geometric's tutorials write it, with the weights of ``twin``."""

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.encoder, self.readout = twin.encoder, twin.readout
        self.convolutions = nn.ModuleList(GCNConv(*layer.weight.shape, bias=False) for layer in twin.layers)
        for conv, layer in zip(self.convolutions, twin.layers, strict=True):
            conv.lin.weight.data = layer.weight.detach().T.clone()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.encoder(x)
        for conv in self.convolutions:
            h = torch.tanh(conv(h, edge_index))
        return self.readout(h).squeeze(-1)


def epoch(loss: Callable[[object], Tensor], steps: Iterable, optimizer: torch.optim.Optimizer) -> float:
    """Seconds of one epoch."""
    start = time.perf_counter()
    for batch in steps:
        optimizer.zero_grad(set_to_none=True)
        loss(batch).backward()
        optimizer.step()
    return time.perf_counter() - start


def two_ways() -> tuple[dict[str, Callable[[], float]], float]:
    """An epoch of each way, to be called again and again, and the largest difference of their outputs at the start."""
    model = network("GCN", "sssp", 20, 10, 0)
    dense = batches(model, "sssp", 1.0, 1234)["train"]
    plain, graphs = PlainGCN(model), datasets.graph_properties("train")
    first = next(iter(DataLoader(graphs, batch_size=len(dense[0].y))))
    with torch.no_grad():
        gap = plain(first.x, first.edge_index) - model(dense[0].x, *dense[0].graph).flatten()
    loader, mse = DataLoader(graphs, batch_size=512, shuffle=True), nn.functional.mse_loss
    ours, theirs = (torch.optim.Adam(m.parameters(), lr=0.003, fused=True) for m in (model, plain))

    def dense_epoch() -> float:
        steps = [dense[i] for i in torch.randperm(len(dense)).tolist()]
        return epoch(lambda b: mse(model(b.x, *b.graph).squeeze(-1), b.y), steps, ours)

    def plain_epoch() -> float:
        return epoch(lambda b: mse(plain(b.x, b.edge_index), b.sssp), loader, theirs)

    return {WAYS[0]: dense_epoch, WAYS[1]: plain_epoch}, float(gap.abs().max())


def parts_of(run: Callable[[], float]) -> pd.Series:
    """Share of the processor time of ``run`` by kind of operation."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    rows = pd.DataFrame([(PARTS.get(event.key, "the rest"), event.self_cpu_time_total) for event in profile.key_averages()],
                        columns=["part", "time"])
    return rows.groupby("part").time.sum() / rows.time.sum()


def training_speed(repeats: int = 5, device: str = "cpu", progress: bool = False) -> pd.DataFrame:
    """Seconds an epoch of 5,120 graphs, 10 GCN layers of width 20, batches of 512; both ways in turn.

    Returns:
        rows ``way, part, seconds, share``: ``part`` "epoch" is the median over ``repeats`` (``share`` 1), the others are
        the share of each kind of operation in one profiled epoch of dense batches.

    Raises:
        ValueError: another device than the CPU, whose products the plain way is compared on.
    """
    if device != "cpu":
        raise ValueError(f"device must be 'cpu' for this comparison; it was {device!r}")
    ways, gap = two_ways()
    if gap > 1e-5:
        raise RuntimeError(f"the two networks must compute the same outputs; they differ by {gap:.1e}")
    seconds = pd.DataFrame([{way: run() for way, run in ways.items()} for _ in range(repeats + 1)]).iloc[1:]
    rows = [{"way": way, "part": "epoch", "seconds": seconds[way].median(), "share": 1.0} for way in WAYS]
    shares = parts_of(ways[WAYS[0]])
    rows += [{"way": WAYS[0], "part": part, "seconds": share * seconds[WAYS[0]].median(), "share": share}
             for part, share in shares.items()]
    return pd.DataFrame(rows)
