"""Cost of trajectories: 80 layers of every model on Cora, and seconds against the number of edges.

    python tests/benchmarks/bench_smoothing.py

Prints two tables; exits with 1 when a target is missed: 20 s and 1 GB for all models together, cost linear in edges.
"""
from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from gnnssm_lite.datasets import load_cora
from gnnssm_lite.graphs import normalized_adjacency, operator, undirected
from gnnssm_lite.models import (
    ADGN,
    DGC,
    GAT,
    GCN,
    GCNII,
    GIN,
    GNNSSM,
    GRAND,
    PHDGN,
    SWAN,
    DRewGCN,
    GatedGCN,
    GraphCON,
    GraphSAGE,
    shell_operators,
    state_matrix,
)
from gnnssm_lite.smoothing import trajectory

SECONDS, GIGABYTES = 20.0, 1.0


def peak_memory() -> float:
    """Peak resident memory of this process in GB (ru_maxrss is in KiB on Linux, in bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def stacks(dim: int, depth: int) -> dict[str, tuple[str, Callable[[], Iterator]]]:
    """For each model: the operator it asks for, and a function that starts a generator of its untrained layers."""
    Lambda = state_matrix(dim, 0.99, "orthogonal")
    diffusion = GRAND(dim)  # one attention for all layers
    fresh = {
        "GCN": lambda k: GCN(dim, dim), "GAT": lambda k: GAT(dim, dim), "GraphSAGE": lambda k: GraphSAGE(dim, dim),
        "GIN": lambda k: GIN(dim, dim), "GatedGCN": lambda k: GatedGCN(dim, dim),
        "GCN-SSM": lambda k: GNNSSM(GCN(dim, dim), Lambda), "GAT-SSM": lambda k: GNNSSM(GAT(dim, dim), Lambda),
        "DGC": lambda k: DGC(dim, 5.0, depth), "GRAND": lambda k: diffusion, "ADGN": lambda k: ADGN(dim),
        "SWAN": lambda k: SWAN(dim), "GCNII": lambda k: GCNII(dim, layer=k), "GraphCON": lambda k: GraphCON(dim),
        "PHDGN": lambda k: PHDGN(dim),
    }
    return {name: (make(1).operator, lambda make=make: (make(k) for k in range(1, depth + 1)))
            for name, make in fresh.items()}


def every_model(dim: int, depth: int, max_hops: int) -> bool:
    """80 layers of every model on Cora's graph with N(0, 1) features."""
    edge_index, n = load_cora().edge_index, 2708
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(0))
    kinds = {kind: operator(kind, edge_index, n, "sparse") for kind in ("normalized", "adjacency", "mean")}
    runs = [(name, make, (kinds[kind],)) for name, (kind, make) in stacks(dim, depth).items()]
    runs = [(name, make, (*graph, x) if name in ("GRAND", "GCNII") else graph) for name, make, graph in runs]
    shells = shell_operators(edge_index, n, max_hops, "sparse")
    for name, nu in (("DRew-GCN", None), ("DRew-GCN + delay", 1)):
        runs.append((f"{name} ({max_hops} hops)", lambda nu=nu: DRewGCN(dim, depth, nu, max_hops).layers, (shells,)))
    print(f"{depth} layers on Cora, width {dim}, {torch.get_num_threads()} thread(s)\n")
    print(f"{'model':<28}{'seconds':>9}{'peak GB':>9}{'E_K / E_0':>12}")
    total, processor = 0.0, time.process_time()
    for name, make, graph in runs:
        start = time.perf_counter()
        run = trajectory(make(), x, *graph, edge_index=edge_index)
        total += (seconds := time.perf_counter() - start)
        print(f"{name:<28}{seconds:>9.2f}{peak_memory():>9.2f}{run['energy'].iloc[-1] / run['energy'][0]:>12.3g}")
    print(f"{'together':<28}{total:>9.2f}{peak_memory():>9.2f}   (targets: {SECONDS:g} s, {GIGABYTES:g} GB)")
    print(f"processor time {time.process_time() - processor:.2f} s; the rest is waiting for other programs\n")
    return total <= SECONDS and peak_memory() <= GIGABYTES


def random_graph(m: int, seed: int) -> tuple[Tensor, int]:
    """About ``m`` random edges among ``m / 4`` nodes: mean degree 8 at every size."""
    n = max(m // 4, 8)
    pairs = torch.randint(n, (2, m), generator=torch.Generator().manual_seed(seed))
    return undirected(pairs), n


def against_edges(dim: int, depth: int, repeats: int) -> bool:
    """Seconds of a GCN trajectory against the number of edges, and the exponent of a power-law fit."""
    print(f"GCN, {depth} layers, width {dim}, all measures\n")
    print(f"{'edges':>10}{'nodes':>10}{'seconds':>10}{'ns / edge / layer':>20}")
    sizes, times = [], []
    for m in (10 ** 3, 10 ** 4, 3 * 10 ** 4, 10 ** 5, 3 * 10 ** 5, 10 ** 6):
        edge_index, n = random_graph(m, 0)
        S, x = normalized_adjacency(edge_index, n, "sparse"), torch.randn(n, dim)
        best = np.inf
        for _ in range(repeats):
            start = time.perf_counter()
            trajectory((GCN(dim, dim) for _ in range(depth)), x, S, edge_index=edge_index)
            best = min(best, time.perf_counter() - start)
        sizes.append(edge_index.shape[1] // 2)
        times.append(best)
        print(f"{sizes[-1]:>10}{n:>10}{best:>10.3f}{1e9 * best / sizes[-1] / depth:>20.0f}")
    exponent = np.polyfit(np.log(sizes[1:]), np.log(times[1:]), 1)[0]  # the first size measures the overhead of Python
    print(f"\nseconds ~ edges^{exponent:.2f} from 10^4 edges on; peak {peak_memory():.2f} GB")
    return exponent <= 1.15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--depth", type=int, default=80)
    parser.add_argument("--max-hops", type=int, default=3, help="reach of DRew; Cora's shells grow dense beyond")
    parser.add_argument("--threads", type=int, default=1, help="one is steady on a shared machine, and enough")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    passed = every_model(options.dim, options.depth, options.max_hops)
    passed &= against_edges(16, 4, 3)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
