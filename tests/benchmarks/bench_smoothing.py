"""Cost of trajectories: 80 layers of every model on Cora, and seconds against the number of edges.

    python tests/benchmarks/bench_smoothing.py

Prints two tables; exits with 1 when a target is missed: 20 s and 1 GB for all models together, cost linear in edges.
"""
from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch
from torch import Tensor

from gnnssm_lite.datasets import load_cora
from gnnssm_lite.experiments.section4 import STACKS, Graphs, depth_trajectory
from gnnssm_lite.graphs import normalized_adjacency, undirected
from gnnssm_lite.models import GCN
from gnnssm_lite.smoothing import trajectory

SECONDS, GIGABYTES = 20.0, 1.0


def peak_memory() -> float:
    """Peak resident memory of this process in GB (ru_maxrss is in KiB on Linux, in bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def every_model(dim: int, depth: int) -> bool:
    """80 layers of every stack of the book on Cora's graph with N(0, 1) features."""
    cora = load_cora()
    graph = Graphs(cora.edge_index, cora.num_nodes, "cpu")
    print(f"{depth} layers on Cora, width {dim}, {torch.get_num_threads()} thread(s)\n")
    print(f"{'model':<34}{'seconds':>9}{'peak GB':>9}{'E_K / E_0':>12}")
    total, processor = 0.0, time.process_time()
    for name in STACKS:
        start = time.perf_counter()
        run = depth_trajectory(name, graph, dim, depth)
        total += (seconds := time.perf_counter() - start)
        print(f"{name:<34}{seconds:>9.2f}{peak_memory():>9.2f}{run['energy'].iloc[-1] / run['energy'][0]:>12.3g}")
    print(f"{'together':<34}{total:>9.2f}{peak_memory():>9.2f}   (targets: {SECONDS:g} s, {GIGABYTES:g} GB)")
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
    parser.add_argument("--threads", type=int, default=1, help="one is steady on a shared machine, and enough")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    passed = every_model(options.dim, options.depth)
    passed &= against_edges(16, 4, 3)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
