"""How long the Jacobian engine takes on Cora, and against plain torch where the dense way still fits.

Run ``python tests/benchmarks/bench_jacobian.py``; pytest does not collect it. Every row runs in a process of its own, so
that its peak memory is its own too.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from gnnssm_lite import graphs, jacobian
from gnnssm_lite.datasets import load_cora
from gnnssm_lite.models import GCN

WIDTH = 64
SMALL_WIDTH = 30  # times 100 nodes: n d = 3,000, a dense Jacobian of 72 MB


def timed(call: Callable) -> tuple[Any, str, float]:
    """What ``call()`` returns, its time in words and in seconds. On a busy machine the processor time says more."""
    start, processor = time.perf_counter(), time.process_time()
    result = call()
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    return result, f"{seconds:.2f} s ({processor:.2f} s of processor)", seconds


def cora(activation: str | None) -> tuple[GCN, torch.Tensor, torch.Tensor]:
    """A GCN layer of width 64 on Cora with its sparse operator, float64."""
    data = load_cora(split="random")
    generator = torch.Generator().manual_seed(0)
    layer = GCN(WIDTH, WIDTH, activation).double()
    layer.weight.data = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64) / WIDTH ** 0.5
    h = torch.randn(data.num_nodes, WIDTH, generator=generator, dtype=torch.float64)
    return layer, h, graphs.normalized_adjacency(data.edge_index, data.num_nodes, "sparse", torch.float64)


def all_singular_values() -> str:
    layer, h, S = cora(None)
    values, took, _ = timed(lambda: jacobian.singular_values(layer, h, S))
    return f"{len(values):,} values in {took}"


def density_of_a_nonlinear_layer() -> str:
    layer, h, S = cora("tanh")
    density, took, _ = timed(lambda: jacobian.spectral_density(layer, h, S))
    return f"{len(density.nodes)} nodes in {took}"


def density_against_exact() -> str:
    layer, h, S = cora(None)
    exact = jacobian.singular_values(layer, h, S).numpy() ** 2
    density, took, _ = timed(lambda: jacobian.spectral_density(layer, h, S))
    return f"W1 = {100 * density.wasserstein(exact) / (exact.max() - exact.min()):.3f} % of the range in {took}"


def ours_against_plain_torch() -> str:
    """The same singular values three ways in one run: Kronecker, our dense way, plain torch."""
    n, layer = 100, GCN(SMALL_WIDTH, SMALL_WIDTH, None).double()
    S = graphs.normalized_adjacency(graphs.grid(10, 10), n, dtype=torch.float64)
    h = torch.randn(n, SMALL_WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def plain() -> torch.Tensor:
        J = torch.autograd.functional.jacobian(lambda h: layer(h, S), h)
        return torch.linalg.svdvals(J.reshape(n * SMALL_WIDTH, n * SMALL_WIDTH))

    ways = {"kronecker": lambda: jacobian.singular_values(layer, h, S, method="kronecker"),
            "dense": lambda: jacobian.singular_values(layer, h, S, method="dense"), "plain torch": plain}
    plain()  # warm up
    runs = {name: timed(way) for name, way in ways.items()}
    exact, _, reference = runs["plain torch"]
    gap = max(float((values - exact).abs().max()) for values, _, _ in runs.values()) / float(exact[0])
    rows = [f"{name} {took}, {reference / seconds:,.2f} times as fast" for name, (_, took, seconds) in runs.items()]
    return "; ".join(rows) + f"; largest relative gap {gap:.1e}"


ROWS = {
    f"all singular values, linear GCN, width {WIDTH}, Cora": all_singular_values,
    f"spectral density, tanh GCN, width {WIDTH}, Cora": density_of_a_nonlinear_layer,
    "spectral density against exact, linear GCN, Cora": density_against_exact,
    f"n d = {100 * SMALL_WIDTH:,}: ours against jacobian + svdvals": ours_against_plain_torch,
}


def _peak_gigabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kilobytes elsewhere


def _row(title: str) -> tuple[str, float, float]:
    before = _peak_gigabytes()
    return ROWS[title](), before, _peak_gigabytes()


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, CPU")
    print(f"{'what':<58} {'peak GB (import)':>17}  result")
    for title in ROWS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            result, before, peak = pool.submit(_row, title).result()
        print(f"{title:<58} {f'{peak:.2f} ({before:.2f})':>17}  {result}", flush=True)


if __name__ == "__main__":
    main()
