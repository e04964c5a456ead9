"""Validations of section 5 of the paper in float64: Theorem 5.1 and its counterpart for GNN-SSM (chapter 9)."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import graphs, squashing
from ..models import GCN, GNNSSM, shell_operators, state_generator, state_matrix
from ..models.multihop import kGCN
from ..squashing import MPNN

DTYPE = torch.float64
ACTIVATIONS = (None, "tanh", "relu", "elu", "sigmoid", "gelu", "leaky_relu")
EVERY = 8  # every how many-th draw is an equality case


# ---------------------------------------------------------------- random draws

# reduced options of each experiment, for a quick look
QUICK = {"theorem_5_1": {"seeds": tuple(range(4))}, "proposition_9_a": {"seeds": tuple(range(4))},
         "sensitivity_distance": {"seeds": (0,), "dim": 4}}


def random_graph(rng: np.random.Generator) -> tuple[str, Tensor, int]:
    """One of eight families, of random size: ``(name, edge_index, num_nodes)``, at most 31 nodes."""
    def sized(low: int, high: int) -> int:
        return int(rng.integers(low, high))

    families: dict[str, Callable[[], tuple[Tensor, int]]] = {
        "path": lambda: (graphs.path(n := sized(2, 16)), n),
        "ring": lambda: (graphs.ring(n := sized(3, 16)), n),
        "barbell": lambda: (graphs.barbell(c := sized(3, 6), b := sized(0, 5)), 2 * c + b),
        "binary tree": lambda: (graphs.binary_tree(d := sized(1, 5)), 2 ** (d + 1) - 1),
        "grid": lambda: (graphs.grid(r := sized(2, 5), c := sized(2, 6)), r * c),
        "Erdős–Rényi": lambda: (graphs.erdos_renyi(n := sized(2, 20), float(rng.uniform(0.05, 0.5)), sized(0, 10 ** 6)), n),
        "caveman": lambda: (graphs.caveman(k := sized(2, 5), s := sized(3, 6)), k * s),
        "complete": lambda: (graphs.complete(n := sized(2, 12)), n),
    }
    name = str(rng.choice(list(families)))
    return name, *families[name]()


def _fill(layers: Sequence[nn.Module], generator: torch.Generator, equal: float | None) -> None:
    """Weights from ``N(0, s²)`` with one random ``s`` a stack, or all equal to one number."""
    scale = 0.2 + 1.3 * float(torch.rand((), generator=generator))
    for layer in layers:
        for weight in layer.parameters():
            drawn = scale * torch.randn(weight.shape, generator=generator, dtype=DTYPE)
            weight.data = drawn if equal is None else torch.full_like(drawn, equal)


def random_mpnns(seed: int) -> dict:
    """A draw for Theorem 5.1: graph, layers, input, target. Every eighth is an equality case.

    Equality: linear layers of one width with all weights equal. Elsewhere widths differ from layer to layer, and about one
    draw in six has ``c_r = 0`` (a GCN).
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    name, edge_index, n = random_graph(rng)
    depth, equality = int(rng.integers(1, 9)), seed % EVERY == 0
    c_r, c_a = (0.0 if rng.random() < 1 / 6 else float(rng.uniform(0.1, 1.5))), float(rng.uniform(0.1, 1.5))
    widths = [int(rng.integers(1, 8))] * (depth + 1) if equality else rng.integers(1, 8, size=depth + 1).tolist()
    activation = None if equality else ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]
    layers = [MPNN(a, b, activation, c_r, c_a) for a, b in zip(widths[:-1], widths[1:], strict=True)]
    _fill(layers, generator, float(rng.uniform(0.1, 1.2)) if equality else None)
    return {"graph": name, "edge_index": edge_index, "n": n, "layers": layers, "target": int(rng.integers(n)),
            "h": torch.randn(n, widths[0], generator=generator, dtype=DTYPE), "depth": depth, "width": max(widths),
            "activation": activation or "identity", "c_r": c_r, "c_a": c_a, "equality": equality}


def random_ssms(seed: int) -> dict:
    """A draw for Proposition 9.A: a GNN-SSM around GCNs, or around k-hop GCNs. Every eighth is an equality case."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    name, edge_index, n = random_graph(rng)
    depth, width, equality = int(rng.integers(1, 9)), int(rng.integers(1, 8)), seed % EVERY == 0
    hops, eig = bool(rng.random() < 0.5), float(rng.uniform(0, 1.2))
    kind = "identity" if equality else str(rng.choice(["orthogonal", "identity", "gaussian", "uniform", "spread"]))
    activation = None if equality else ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]
    couplings = [kGCN(width, width, activation, hop=k + 1) if hops else GCN(width, width, activation) for k in range(depth)]
    _fill(couplings, generator, float(rng.uniform(0.1, 1.2)) if equality else None)
    Lambda = state_matrix(width, eig, kind, generator, DTYPE)
    B = state_matrix(width, 1.0, "identity" if equality else "uniform", generator, DTYPE)
    return {"graph": name, "edge_index": edge_index, "n": n, "layers": [GNNSSM(c, Lambda, B) for c in couplings],
            "target": int(rng.integers(n)), "h": torch.randn(n, width, generator=generator, dtype=DTYPE), "depth": depth,
            "width": width, "activation": activation or "identity", "kind": kind, "eig": eig, "hops": hops,
            "equality": equality}


# ---------------------------------------------------------------- Theorem 5.1 and Proposition 9.A

ABOUT = ("graph", "n", "depth", "width", "activation", "equality")


def theorem_5_1(seeds: Sequence[int] = tuple(range(240)), norm: str = "l1", device: str = "cpu",
                progress: bool = False) -> pd.DataFrame:
    """Theorem 5.1 on random draws of graph, depth, widths, activation, weights, ``c_r`` and ``c_a``.

    For each draw one target and all sources are looked at.

    Returns:
        a row for each draw and distance: the source with the largest ratio of sensitivity to bound. ``sensitivity``,
        ``topology_term``, ``model_term``, ``bound`` and ``ratio``, at most 1 and equal to 1 where ``equality`` within
        ``depth`` hops; ``walk_bound`` and ``entrywise_bound``, the sharper bounds of that pair. Beyond ``depth`` hops the
        bound is 0, and so is the sensitivity: ``ratio`` is 0 (infinite if the sensitivity were not 0). ``distance`` is
        ``inf`` for sources without a path.
    """
    rows = []
    for seed in tqdm(seeds, desc="theorem 5.1", disable=not progress):
        draw = random_mpnns(seed)
        S = graphs.normalized_adjacency(draw["edge_index"], draw["n"], dtype=DTYPE).to(device)
        about = {"seed": seed} | {key: draw[key] for key in (*ABOUT, "c_r", "c_a")}
        bound = squashing.sensitivity_bound(draw["layers"], S, norm)
        rows += _compare(draw, S, bound, squashing.walk_bound(draw["layers"], S, norm), norm, about)
    return pd.DataFrame(rows)


def proposition_9_a(seeds: Sequence[int] = tuple(range(240)), norm: str = "spectral", device: str = "cpu",
                    progress: bool = False) -> pd.DataFrame:
    """Proposition 9.A on random draws of graph, depth, width, activation, ``Λ``, ``B`` and weights; half of them k-hop.

    Returns:
        rows as :func:`theorem_5_1`, with ``kind`` and ``eig`` of ``Λ`` and ``hops`` (whether layer ``k`` reads the nodes
        at distance ``k``); ``walk_bound`` is the bound itself.
    """
    rows = []
    for seed in tqdm(seeds, desc="proposition 9.A", disable=not progress):
        draw = random_ssms(seed)
        S = operators(draw["layers"], draw["edge_index"], draw["n"], device)
        about = {"seed": seed} | {key: draw[key] for key in (*ABOUT, "kind", "eig", "hops")}
        bound = squashing.walk_bound(draw["layers"], S, norm)
        rows += _compare(draw, S, bound, bound, norm, about)
    return pd.DataFrame(rows)


def operators(layers: Sequence[nn.Module], edge_index: Tensor, num_nodes: int, device: str = "cpu") -> Tensor | list[Tensor]:
    """What the layers take beside features: ``Â``, or the shell operators."""
    if layers[0].operator != "shells":
        return graphs.operator(layers[0].operator, edge_index, num_nodes, dtype=DTYPE).to(device)
    kind = getattr(layers[0], "shell", "normalized")
    shells = shell_operators(edge_index, num_nodes, len(layers), dtype=DTYPE, kind=kind)
    # A graph without edges has no shells at all; one empty shell stands for them.
    empty = graphs.operator(kind, edge_index, num_nodes, dtype=DTYPE)
    return [S.to(device) for S in shells or [empty]]


def _compare(draw: dict, S: Tensor | list[Tensor], bound: squashing.Bound, walks: squashing.Bound, norm: str,
             about: dict) -> list[dict]:
    device = bound.topology_term.device
    v, layers = draw["target"], [layer.to(device) for layer in draw["layers"]]
    found = squashing.sensitivity_to_target(layers, draw["h"].to(device), S, target=v, norm=norm)
    limit = bound.values[v]
    ratio = torch.where(limit > 0, found / limit, torch.where(found > 0, torch.inf, 0.0)).cpu().numpy()
    entries = squashing.block_norm(squashing.entrywise_bound(layers, S, v), norm)
    distance = graphs.shortest_path_lengths(draw["edge_index"], draw["n"], source=v).numpy()
    rows = []
    for hops in np.unique(distance):
        u = int(max(np.flatnonzero(distance == hops), key=lambda node: ratio[node]))
        rows.append(about | {"distance": float(hops), "sensitivity": float(found[u]),
                             "topology_term": float(bound.topology_term[v, u]), "model_term": bound.model_term,
                             "bound": float(limit[u]), "ratio": float(ratio[u]), "walk_bound": float(walks.values[v, u]),
                             "entrywise_bound": float(entries[u])})
    return rows


# ---------------------------------------------------------------- sensitivity over distance

def bottleneck_graphs() -> dict[str, tuple[Tensor, int]]:
    """Four graphs on which messages have far to go: name -> ``(edge_index, num_nodes)``."""
    return {"path": (graphs.path(16), 16), "ring": (graphs.ring(20), 20), "barbell": (graphs.barbell(6, 5), 17),
            "binary tree": (graphs.binary_tree(4), 31)}


def _gcns(dim: int, depth: int, hops: bool) -> list[nn.Module]:
    return [kGCN(dim, dim, "tanh", hop=k + 1) if hops else GCN(dim, dim, "tanh") for k in range(depth)]


def _with_state(eig: float, hops: bool) -> Callable[[int, int, torch.Generator], list[nn.Module]]:
    def layers(dim: int, depth: int, generator: torch.Generator) -> list[nn.Module]:
        Lambda, B = (state_matrix(dim, e, kind, generator) for e, kind in ((eig, "orthogonal"), (1.0, "uniform")))
        return [GNNSSM(coupling, Lambda, B) for coupling in _gcns(dim, depth, hops)]
    return layers


# name -> layers(dim, depth, generator), untrained
STACKS: dict[str, Callable[[int, int, torch.Generator], list[nn.Module]]] = {
    "GCN": lambda dim, depth, generator: _gcns(dim, depth, hops=False),
    "k-hop GCN": lambda dim, depth, generator: _gcns(dim, depth, hops=True),
    **{f"{name}, eig(Λ) = {eig:g}": _with_state(eig, hops)
       for name, hops in (("GCN-SSM", False), ("kGCN-SSM", True)) for eig in (1.0, 0.5)},
}


def sensitivity_distance(seeds: Sequence[int] = (0, 1, 2, 3), models: Sequence[str] = tuple(STACKS), dim: int = 8,
                         depth: int = 16, device: str = "cpu", progress: bool = False) -> pd.DataFrame:
    """Sensitivity of untrained networks over distance on a path, a ring, a barbell and a binary tree, in spectral norm.

    Args:
        models: names in ``STACKS``.

    Returns:
        a row for each graph, model, seed and distance: ``sensitivity`` (mean over the pairs), its ``std``, the ``count``
        of pairs, ``topology_term`` (mean), ``model_term`` and their product ``bound`` (Proposition 9.A; for the GCN
        ``topology_term`` is ``(Â^K)_vu``).

    Raises:
        ValueError: an unknown model.
    """
    unknown = [name for name in models if name not in STACKS]
    if unknown:
        raise ValueError(f"models must be among {', '.join(STACKS)}; unknown: {', '.join(unknown)}")
    frames = []
    for graph_name, (edge_index, n) in bottleneck_graphs().items():
        for name in tqdm(models, desc=f"sensitivity on {graph_name}", disable=not progress):
            for seed in seeds:
                table = _one_network(name, edge_index, n, dim, depth, seed, device)
                frames.append(table.assign(graph=graph_name, model=name, seed=seed))
    first = ["graph", "model", "seed", "distance"]
    frame = pd.concat(frames, ignore_index=True)
    return frame[first + [column for column in frame if column not in first]]


def _one_network(name: str, edge_index: Tensor, n: int, dim: int, depth: int, seed: int, device: str) -> pd.DataFrame:
    generator = state_generator(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [layer.to(DTYPE).to(device) for layer in STACKS[name](dim, depth, generator)]
    h, S = torch.randn(n, dim, generator=generator, dtype=DTYPE).to(device), operators(layers, edge_index, n, device)
    distance = graphs.shortest_path_lengths(edge_index, n).numpy()
    found = squashing.by_distance(distance, squashing.sensitivities(layers, h, S, norm="spectral").cpu().numpy())
    bound = squashing.walk_bound(layers, S, "spectral")
    topology = squashing.by_distance(distance, bound.topology_term.cpu().numpy())["mean"]
    return pd.DataFrame({"distance": found.distance, "sensitivity": found["mean"], "std": found["std"],
                         "count": found["count"], "topology_term": topology, "model_term": bound.model_term,
                         "bound": bound.model_term * topology})
