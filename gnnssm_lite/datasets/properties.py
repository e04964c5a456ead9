r"""The graph-property benchmark: random graphs of ten kinds and four quantities to predict on each of them.

The distribution is the one of the public generator of the multitask benchmark of Corso et al. (2020), with the sizes that
Gravina et al. (2023) use. Where a description and that code differ, this module follows the code, the best evidence of
how the published data were made:

* Edges are randomised with the mean of two uniform numbers per pair, which has a triangular density. An edge that is
  meant to stay with probability 0.9 stays with probability 0.98, and few edges are added (see :func:`_randomized`).
* Training graphs have 25 to 34 nodes, ten sizes with 512 graphs each. Validation and test have five groups, which take
  the first five sizes only: 25 to 29 nodes, 128 and 256 graphs each.
* A graph with an isolated node is drawn again with the same kind, so the kinds keep their probabilities.
* The power-law "tree" is a caterpillar too: a path of its inner nodes, sorted by degree, with leaves.
* Where the size is a prime number, the grid is a path and the caveman graph is one complete graph.
"""

from __future__ import annotations

import gzip
import itertools
import math
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm.auto import tqdm

from ..checks import check_choice, check_int
from ._checks import nonnegative_int, true_or_false
from .cache import DataFileError, cached

# Raise this whenever the arrays that a seed gives change: it is part of the name of the cached file.
VERSION = 1

SPLITS = ("train", "validation", "test")
SIZES = {"train": range(25, 35), "validation": range(25, 30), "test": range(25, 30)}
GRAPHS_PER_SIZE = {"train": 512, "validation": 128, "test": 256}

NODE_LABELS = ("sssp", "eccentricity", "laplacian")
LABELS = (*NODE_LABELS, "diameter")

KIND_PROBABILITIES = {
    "erdos_renyi": 0.2, "barabasi_albert": 0.2, "grid": 0.05, "caveman": 0.05, "tree": 0.15,
    "ladder": 0.05, "line": 0.05, "star": 0.05, "caterpillar": 0.1, "lobster": 0.1,
}
KINDS = tuple(KIND_PROBABILITIES)


@dataclass(frozen=True, eq=False)
class PropertyBatch:
    """Graphs of one size as dense arrays: nothing is padded.

    Shapes:
        ``x`` (b, n, 2) float32: one-hot source, uniform number; ``adjacency`` (b, n, n) float32, 0 or 1;
        ``distance`` (b, n, n) int8: hops, -1 where there is no path; ``labels``: ``"sssp"``, ``"eccentricity"`` and
        ``"laplacian"`` (b, n), ``"diameter"`` (b,), float32; ``source`` (b,) int64; ``kind`` (b,) int64, an index
        into ``KINDS``.
    """

    x: Tensor
    adjacency: Tensor
    distance: Tensor
    labels: dict[str, Tensor]
    source: Tensor
    kind: Tensor

    def __len__(self) -> int:
        return len(self.x)

    @property
    def num_nodes(self) -> int:
        """Nodes of each graph."""
        return self.x.shape[1]

    def to(self, device: torch.device | str) -> PropertyBatch:
        """The same batch with every tensor on ``device``."""
        return self._each(lambda tensor: tensor.to(device))

    def __getitem__(self, graphs: slice | Tensor) -> PropertyBatch:
        """The graphs of a slice or an index tensor, as a batch."""
        if not isinstance(graphs, (slice, Tensor)) or (isinstance(graphs, Tensor) and graphs.dim() != 1):
            raise TypeError(f"graphs must be a slice or a tensor of indices, so that a batch remains; it was {graphs!r}")
        return self._each(lambda tensor: tensor[graphs])

    def _each(self, change: Callable[[Tensor], Tensor]) -> PropertyBatch:
        tensors = {field.name: change(getattr(self, field.name)) for field in fields(self) if field.name != "labels"}
        return replace(self, labels={name: change(label) for name, label in self.labels.items()}, **tensors)


def graph_property_batches(
    split: str = "train", seed: int = 1234, batch_size: int = 512, progress: bool = False
) -> list[PropertyBatch]:
    r"""The graph-property benchmark as dense batches of graphs of equal size.

    .. math::
        \mathrm{sssp}_u = d(s, u), \quad \mathrm{eccentricity}_u = \max_v d(u, v), \quad
        \mathrm{laplacian} = (D - A)\, x_{:,1}, \quad \mathrm{diameter} = \max_{u, v} d(u, v)

    over pairs with a path between them; ``sssp`` is 0 where there is none. The graphs come in groups of one size, in
    ascending order, and a batch never crosses groups, so no batch has more than 512 graphs. With the default ``batch_size``
    there are 10 batches of 512 graphs for training, 5 of 128 for validation and 5 of 256 for the test: all batches of a
    split are of one length, and the mean over batches of the mean over graphs is the mean over all graphs.

    Args:
        split: ``"train"`` (5,120 graphs of 25 to 34 nodes), ``"validation"`` (640 of 25 to 29) or ``"test"`` (1,280 of
            25 to 29).
        seed: seed of the whole data set; each size of each split has a stream of its own.
        batch_size: most graphs in a batch.
        progress: show a progress bar while the graphs are generated. They are generated once, then read from the cache.

    Returns:
        a list of :class:`PropertyBatch`.

    Raises:
        TypeError: ``seed`` or ``batch_size`` is no int, or ``progress`` no bool.
        ValueError: unknown ``split``, negative ``seed`` or ``batch_size`` below 1.
        CacheFolderError: the cache cannot be written.

    Source:
        Corso et al. (2020) for the generator; Gravina et al. (2023) for the sizes.
    """
    check_int("batch_size", batch_size, 1)
    batches = []
    for group in _load(split, seed, progress):
        whole = _batch(group)
        batches += [whole[start : start + batch_size] for start in range(0, len(whole), batch_size)]
    return batches


def graph_properties(split: str = "train", seed: int = 1234, progress: bool = False) -> list[Data]:
    """The graph-property benchmark as torch-geometric ``Data``: the numbers of :func:`graph_property_batches`.

    Args:
        split, seed, progress: as for :func:`graph_property_batches`.

    Shapes:
        ``x`` (n, 2) float32: one-hot source, uniform number; ``edge_index`` (2, E) int64, both directions, sorted by
        row; ``sssp``, ``eccentricity`` and ``laplacian`` (n,) float32; ``diameter`` (1,) float32; ``source`` and
        ``kind`` (1,) int64, the latter an index into ``KINDS``.

    Returns:
        a list of ``Data``, in the order of the batches.

    Raises:
        TypeError, ValueError, CacheFolderError: as :func:`graph_property_batches`.

    Source:
        as :func:`graph_property_batches`.
    """
    return [data for batch in graph_property_batches(split, seed, progress=progress) for data in _data(batch)]


def _data(batch: PropertyBatch) -> Iterator[Data]:
    for i in range(len(batch)):
        yield Data(
            x=batch.x[i],
            edge_index=batch.adjacency[i].nonzero().t().contiguous(),
            **{name: batch.labels[name][i] for name in NODE_LABELS},
            diameter=batch.labels["diameter"][i : i + 1],
            source=batch.source[i : i + 1],
            kind=batch.kind[i : i + 1],
        )


# ---------------------------------------------------------------- label scales


def label_maximum(seed: int = 1234) -> dict[str, float]:
    """Largest training value of each label: raw labels divided by it are the normalised labels of the benchmark.

    A raw score ``log10(MSE)`` less ``2 * log10(maximum)`` is the normalised score of the same prediction.

    Args:
        seed: seed of the data set.

    Raises:
        TypeError, ValueError, CacheFolderError: as :func:`graph_property_batches`.
    """
    batches = graph_property_batches("train", seed)
    return {name: max(float(batch.labels[name].max()) for batch in batches) for name in LABELS}


def constant_errors(split: str = "test", seed: int = 1234) -> dict[str, Tensor]:
    r"""Squared errors, on raw labels, of a model that predicts the mean training label everywhere, one a graph.

    .. math:: e_g = \frac1{n_g} \sum_{u \in g} (y_u - \bar y)^2, \quad
        \bar y = \frac1{|T|} \sum_{g \in T} \frac1{n_g} \sum_{u \in g} y_u

    with ``T`` the training graphs; one value a graph for the diameter.

    Args:
        split: the graphs that are scored. seed: seed of the data set.

    Returns:
        for each label, the errors (graphs,) in float64, in the order of the data.

    Raises:
        TypeError, ValueError, CacheFolderError: as :func:`graph_property_batches`.
    """
    train, scored = graph_property_batches("train", seed), graph_property_batches(split, seed)
    errors = {}
    for name in LABELS:
        constant = _graph_means([batch.labels[name].double() for batch in train]).mean()
        errors[name] = _graph_means([(batch.labels[name].double() - constant).square() for batch in scored])
    return errors


def constant_scores(split: str = "test", seed: int = 1234, batch_size: int | None = None) -> dict[str, dict[str, float]]:
    r"""What a model scores that predicts the mean training label everywhere: the least that a model must beat.

    .. math:: \mathrm{raw} = \log_{10} \frac1{|G|} \sum_{g \in G} e_g

    with ``G`` the graphs of ``split`` and their :func:`constant_errors`. The normalised score divides labels and prediction
    by :func:`label_maximum`.

    Args:
        split: the graphs that are scored. seed: seed of the data set.
        batch_size: None for the mean over graphs. A number for the mean over batches of so many graphs, in the order of
            the data, of the mean in each batch. The public evaluation does this with 512: the last batch of
            validation (128 graphs) and of test (256) is smaller and weighs as much, and its graphs are the largest.

    Returns:
        for each label, ``{"raw": ..., "normalised": ...}``.

    Raises:
        TypeError, ValueError, CacheFolderError: as :func:`graph_property_batches`.
    """
    if batch_size is not None:
        check_int("batch_size", batch_size, 1)
    maximum, scores = label_maximum(seed), {}
    for name, errors in constant_errors(split, seed).items():
        raw = float(torch.stack([batch.mean() for batch in errors.split(batch_size or len(errors))]).mean().log10())
        scores[name] = {"raw": raw, "normalised": raw - 2 * math.log10(maximum[name])}
    return scores


def sssp_floor(distance: Tensor, reach: int, by_source: bool = False) -> Tensor:
    r"""The mean squared error on SSSP that no network of reach ``R`` can get below, expected over a uniform source.

    .. math:: \Phi_R = \frac1n \sum_u \frac{|O_u|}{n} \operatorname{Var}_{s \in O_u} y_u(s)

    with ``O_u`` the nodes that are more than ``R`` hops from ``u`` or not connected with it, and ``y_u(s)`` the hops from
    ``s`` to ``u``, 0 without a path. A network has reach ``R`` if its output at a node depends on the features of nodes
    within ``R`` hops only: for all sources out of sight it has one answer.

    Args:
        distance: hops; negative or infinite without a path.
        reach: ``R``, at least 0.
        by_source: return what a network that attains the floor makes for each source, whose mean is the floor. For single
            sources there is no bound: another network may do better on some and must do worse on others.

    Shapes:
        ``distance``: ``(..., n, n)``; returns ``(...)``, or ``(..., n)`` by source, in float64, in hops squared.

    Raises:
        TypeError, ValueError: a ``distance`` that is no real square matrix, or has NaN; a negative ``reach``.

    Source: Proposition 10.A of the book.
    """
    if not isinstance(distance, Tensor) or distance.is_complex():
        was = distance.dtype if isinstance(distance, Tensor) else type(distance).__name__
        raise TypeError(f"distance must be a real tensor; it was {was}")
    if distance.dim() < 2 or distance.shape[-1] != distance.shape[-2]:
        raise ValueError(f"distance must have the shape (..., n, n); it was {tuple(distance.shape)}")
    if distance.isnan().any():
        raise ValueError("distance must be without NaN; it had some")
    check_int("reach", reach, 0)
    label = torch.where(distance.isinf(), 0, distance.double()).clamp(min=0)
    outside = ((distance > reach) | (distance < 0)).double()
    mean = (label * outside).sum(-1, keepdim=True) / outside.sum(-1, keepdim=True).clamp(min=1)
    errors = ((label - mean).square() * outside).mean(-2)  # over the nodes u; a column for each source
    return errors if by_source else errors.mean(-1)


def _graph_means(values: list[Tensor]) -> Tensor:
    return torch.cat([value.reshape(len(value), -1).mean(1) for value in values])


# ---------------------------------------------------------------- the released file

RELEASED = "pna_dataset_25-35.pkl"
RELEASED_SPLITS = {"train": "train", "validation": "val", "test": "test"}


def released_columns(path: str | Path) -> pd.DataFrame:
    """Which quantity each label column of the released data file holds, told from its own graphs and features.

    The labels are computed again from the file's adjacency matrices and features, and compared with every column. A
    column holds a quantity if the largest difference is 0, or of the order of float32 rounding for the Laplacian.

    Args:
        path: the file ``pna_dataset_25-35.pkl``, or the ``data.tar.gz`` that holds it.

    Returns:
        a row for each pair of a column and a label, with ``level`` (``"node"`` or ``"graph"``), ``column``, ``label`` and
        ``difference``, the largest absolute difference over all splits.

    Raises:
        FileNotFoundError: there is no such file.
        DataFileError: the file is not a tuple (adjacency, features, node labels, graph labels) of plain tensors, or its
            graphs are not as :class:`PropertyBatch` has them. It is read without running any code that it may hold.

    Source:
        the file ``graph_prop_pred/data.tar.gz`` beside the code of Gravina et al. (2023).
    """
    adjacency, features, node_labels, graph_labels = _read_released(Path(path))
    largest: dict[tuple[str, int, str], float] = {}
    for split in RELEASED_SPLITS.values():
        for A, x, *columns in zip(adjacency[split], features[split], node_labels[split], graph_labels[split], strict=True):
            labels = _labels(_released_group(A, x))
            for level, names, given in zip(("node", "graph"), (NODE_LABELS, ("diameter",)), columns, strict=True):
                for column, name in itertools.product(range(given.shape[-1]), names):
                    gap = float(np.abs(given[..., column].double().numpy() - labels[name]).max())
                    gap = math.inf if math.isnan(gap) else gap  # a column with NaN holds no label
                    largest[level, column, name] = max(gap, largest.get((level, column, name), 0.0))
    return pd.DataFrame([(*key, gap) for key, gap in largest.items()], columns=["level", "column", "label", "difference"])


def load_released(path: str | Path) -> dict[str, list[PropertyBatch]]:
    """The graphs and features of the released data file, with the labels computed here; ``kind`` is -1 (not stored).

    Args:
        path: as for :func:`released_columns`.

    Returns:
        for each split, a list of :class:`PropertyBatch`, one for each group of the file.

    Raises:
        FileNotFoundError, DataFileError: as :func:`released_columns`.
    """
    adjacency, features, *_ = _read_released(Path(path))
    return {
        split: [_batch(_released_group(A, x)) for A, x in zip(adjacency[name], features[name], strict=True)]
        for split, name in RELEASED_SPLITS.items()
    }


def _released_group(adjacency: Tensor, x: Tensor) -> dict[str, np.ndarray]:
    A = adjacency.numpy().astype(np.uint8)
    group = {"adjacency": A, "distance": hop_distances(A), "kind": np.full(len(A), -1)}
    return group | {"value": x[..., 1].float().numpy(), "source": x[..., 0].argmax(1).numpy()}


def _read_released(path: Path) -> tuple[dict[str, list[Tensor]], ...]:
    try:
        content = torch.load(BytesIO(_released_bytes(path)), weights_only=True, map_location="cpu")
        if not (isinstance(content, tuple) and all(isinstance(part, dict) for part in content)):
            raise ValueError(f"it holds a {type(content).__name__}, not a tuple of dicts")
        parts = tuple({name: list(part[name]) for name in RELEASED_SPLITS.values()} for part in content)
        dims = [{groups.dim() for groups in itertools.chain(*part.values())} for part in parts]
        if dims != [{3}, {3}, {3}, {2}]:
            raise ValueError(f"it holds arrays of {dims} dimensions")
        for group in itertools.chain.from_iterable(zip(*(part[name] for part in parts), strict=True) for name in parts[0]):
            _check_graphs(*group)
    except (pickle.UnpicklingError, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError, ValueError,
            TypeError, KeyError, AttributeError) as error:
        raise DataFileError(
            f"path must be {RELEASED} or the archive with it, plain tensors only; {path} is not ({error}). Nothing was run."
        ) from error
    return parts


def _check_graphs(A: Tensor, x: Tensor, node_labels: Tensor, graph_labels: Tensor) -> None:
    fit = A.shape[:2] == x.shape[:2] == node_labels.shape[:2] and len(A) == len(graph_labels) > 0
    if A.shape[-1] != A.shape[-2] or not fit or x.shape[2] < 2 or A.shape[-1] > 128:
        shapes = ", ".join(str(tuple(part.shape)) for part in (A, x, node_labels, graph_labels))
        raise ValueError(f"its adjacency, features, node and graph labels have the shapes {shapes}")
    if not ((A == 0) | (A == 1)).all() or not torch.equal(A, A.mT) or A.diagonal(dim1=-2, dim2=-1).any():
        raise ValueError("an adjacency matrix must be symmetric, 0 or 1, with an empty diagonal")
    one_hot = ((x[..., 0] == 0) | (x[..., 0] == 1)).all() and (x[..., 0].sum(1) == 1).all()
    if not x.isfinite().all() or not one_hot:
        raise ValueError("features must be finite, the first of them 1 at one node of each graph and 0 elsewhere")


def _released_bytes(path: Path) -> bytes:
    if not tarfile.is_tarfile(path):
        return path.read_bytes()
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).name == RELEASED:
                return archive.extractfile(member).read()
    raise ValueError(f"the archive holds no {RELEASED}")


# ---------------------------------------------------------------- labels


def hop_distances(adjacency: np.ndarray) -> np.ndarray:
    """Hops between all pairs of nodes of many graphs at once, -1 where there is no path.

    Shapes:
        ``adjacency`` (b, n, n), symmetric, 0 or 1; returns (b, n, n) int8.

    Raises:
        ValueError: more than 128 nodes, whose distances int8 may not hold.
    """
    if adjacency.shape[-1] > 128:
        raise ValueError(f"adjacency must have at most 128 nodes a graph; it has {adjacency.shape[-1]}")
    step = adjacency.astype(np.float32)
    reached = np.broadcast_to(np.eye(adjacency.shape[-1], dtype=bool), adjacency.shape)
    distance = np.where(reached, np.int8(0), np.int8(-1))
    frontier, hops = reached, 0
    while frontier.any():
        hops += 1
        frontier = (frontier.astype(np.float32) @ step > 0) & (distance < 0)
        distance[frontier] = hops
    return distance


def _labels(group: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    distance, source = group["distance"], group["source"]
    adjacency, value = group["adjacency"].astype(np.float64), group["value"].astype(np.float64)
    return {
        "sssp": distance[np.arange(len(source)), source].clip(min=0),
        # The -1 of unreachable nodes never wins: the distance to oneself is 0.
        "eccentricity": distance.max(2),
        # Values are multiples of 2^-24: every sum is exact in float64, on every machine.
        "laplacian": adjacency.sum(2) * value - (adjacency @ value[:, :, None])[:, :, 0],
        "diameter": distance.max((1, 2)),
    }


def _batch(group: dict[str, np.ndarray]) -> PropertyBatch:
    source = group["source"].astype(np.int64)
    one_hot = np.arange(group["value"].shape[1]) == source[:, None]
    return PropertyBatch(
        x=torch.from_numpy(np.stack([one_hot.astype(np.float32), group["value"]], axis=2)),
        adjacency=torch.from_numpy(group["adjacency"].astype(np.float32)),
        distance=torch.from_numpy(group["distance"]),
        labels={name: torch.from_numpy(label.astype(np.float32)) for name, label in _labels(group).items()},
        source=torch.from_numpy(source),
        kind=torch.from_numpy(group["kind"].astype(np.int64)),
    )


# ---------------------------------------------------------------- generation


def _load(split: str, seed: int, progress: bool) -> list[dict[str, np.ndarray]]:
    """The arrays of a split, a dict for each size, from the cache or generated."""
    check_choice("split", split, SPLITS)
    nonnegative_int("seed", seed)
    true_or_false("progress", progress)
    key = {"split": split, "seed": int(seed), "version": VERSION}
    arrays = cached("graph-properties", lambda: _generate(split, int(seed), progress), key)
    names = ("adjacency", "distance", "value", "source", "kind")
    return [{name: arrays[f"{name}_{n}"] for name in names} for n in SIZES[split]]


def _generate(split: str, seed: int, progress: bool = False) -> dict[str, np.ndarray]:
    count, arrays = GRAPHS_PER_SIZE[split], {}
    with tqdm(total=count * len(SIZES[split]), desc=f"{split} graphs", disable=not progress, leave=False) as bar:
        for n in SIZES[split]:
            rng = np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), n]))
            group = _group(n, count, rng, bar.update)
            arrays |= {f"{name}_{n}": array for name, array in group.items()}
    return arrays


def _group(n: int, count: int, rng: np.random.Generator, done: Callable[[], object]) -> dict[str, np.ndarray]:
    """``count`` graphs of ``n`` nodes: the arrays that decide everything, and the distances."""
    adjacency, kinds = np.empty((count, n, n), dtype=np.uint8), np.empty(count, dtype=np.uint8)
    value, source = np.empty((count, n), dtype=np.float32), np.empty(count, dtype=np.uint8)
    thresholds = np.cumsum(list(KIND_PROBABILITIES.values()))
    for i in range(count):
        kinds[i] = min(np.searchsorted(thresholds, rng.random(), side="right"), len(KINDS) - 1)
        adjacency[i] = _without_isolated_nodes(KINDS[kinds[i]], n, rng)
        value[i] = np.floor(rng.random(n) * 2**24) / 2**24
        source[i] = _below(n, rng)
        done()
    return {"adjacency": adjacency, "distance": hop_distances(adjacency), "value": value, "source": source, "kind": kinds}


def _without_isolated_nodes(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    while True:
        order = np.argsort(rng.random(n))
        A = _randomized(_symmetric(_BUILD[kind](n, rng))[order][:, order], rng)
        if A.any(axis=0).all():
            return A


def _randomized(A: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r"""Some edges removed and some added, in the way of the public generator.

    With ``e`` edges and ``r`` non-edges, an edge is meant to stay with probability ``p`` and a non-edge to appear with
    probability ``q``: ``p = 0.9``, ``q = 0.1 e/r`` if ``e <= r``, else ``p = 0.9 + 0.1 (e-r)/e``, ``q = 0.1``. But the
    number compared with ``p`` and ``q`` is the mean of two uniform ones. So an edge stays with probability
    ``1 - 2 (1-p)^2``, which is 0.98 for sparse graphs, and a non-edge appears with probability ``2 q^2``.
    """
    n = len(A)
    e = A.sum() // 2
    r = n * (n - 1) // 2 - e
    stay, appear = (0.9, 0.1 * e / r) if e <= r else (0.9 + 0.1 * (e - r) / e, 0.1)
    draw = rng.random((n, n)) / 2
    changed = draw + draw.T < np.where(A, stay, appear)
    np.fill_diagonal(changed, False)
    return changed


# Only rng.random() is ever called. Its numbers are the generator's bits and stay the same in every version of numpy,
# which numpy does not promise of integers(), choice() and permutation().


def _below(n: int, rng: np.random.Generator, size: int | None = None) -> np.ndarray | int:
    """Uniform integers from 0 to ``n - 1``."""
    return np.floor(rng.random(size) * n).astype(np.int64) if size is not None else int(rng.random() * n)


def _symmetric(A: np.ndarray) -> np.ndarray:
    return A | A.T


def _empty(n: int) -> np.ndarray:
    return np.zeros((n, n), dtype=bool)


# ---------------------------------------------------------------- the kinds: an upper or lower triangle, before shuffling


def _erdos_renyi(n: int, rng: np.random.Generator) -> np.ndarray:
    probability = rng.random()
    return np.triu(rng.random((n, n)) < probability, k=1)


def _barabasi_albert(n: int, rng: np.random.Generator) -> np.ndarray:
    """A star of ``m + 1`` nodes; each further node joins ``m`` others, drawn one after another in proportion to degree."""
    m = 1 + _below(n - 1, rng)
    A, degree = _empty(n), np.zeros(n)
    A[0, 1 : m + 1], degree[0], degree[1 : m + 1] = True, m, 1
    for new in range(m + 1, n):
        # The m first of an exponential race are a weighted draw without replacement.
        chosen = np.argsort(-np.log1p(-rng.random(new)) / degree[:new])[:m]
        A[chosen, new] = True
        degree[chosen] += 1
        degree[new] = m
    return A


def _line(n: int, rng: np.random.Generator | None = None) -> np.ndarray:
    return np.eye(n, k=1, dtype=bool)


def _lattice(rows: int, columns: int) -> np.ndarray:
    return np.kron(np.eye(rows, dtype=bool), _line(columns)) | np.kron(_line(rows), np.eye(columns, dtype=bool))


def _squarest(n: int) -> tuple[int, int]:
    """``n`` as a product of two numbers as close as possible, the smaller first."""
    small = max(i for i in range(1, int(n**0.5) + 1) if n % i == 0)
    return small, n // small


def _grid(n: int, rng: np.random.Generator) -> np.ndarray:
    return _lattice(*_squarest(n))


def _caveman(n: int, rng: np.random.Generator) -> np.ndarray:
    cliques, size = _squarest(n)
    return np.triu(np.kron(np.eye(cliques, dtype=bool), np.ones((size, size), dtype=bool)), k=1)


def _ladder(n: int, rng: np.random.Generator) -> np.ndarray:
    A = _empty(n)
    even = n - n % 2
    A[:even, :even] = _lattice(2, even // 2)
    if n % 2:
        A[0, n - 1] = True
    return A


def _star(n: int, rng: np.random.Generator) -> np.ndarray:
    A = _empty(n)
    A[0, 1:] = True
    return A


def _power_law_degrees(n: int, rng: np.random.Generator) -> np.ndarray:
    """Degrees of a tree: rounded Pareto numbers (exponent 3), replaced one by one until they add up to ``2 (n - 1)``."""
    degrees = np.minimum(n, np.rint(1 / np.sqrt(1 - rng.random(n)))).astype(np.int64)
    while (total := degrees.sum()) != 2 * (n - 1):
        for place, new in zip(_below(n, rng, 64), np.rint(1 / np.sqrt(1 - rng.random(64))), strict=True):
            new = min(n, int(new))
            total += new - degrees[place]
            degrees[place] = new
            if total == 2 * (n - 1):
                break
    return degrees


def _tree(n: int, rng: np.random.Generator) -> np.ndarray:
    """Nodes of degree above 1 in a path, by ascending degree, an end node on either side; the other leaves fill up."""
    inner = np.sort(_power_law_degrees(n, rng))
    inner = inner[inner > 1]
    A, path = _empty(n), len(inner) + 2
    A[:path, :path] = _line(path)
    A[np.repeat(np.arange(1, path - 1), inner - 2), np.arange(path, n)] = True
    return A


def _caterpillar(n: int, rng: np.random.Generator) -> np.ndarray:
    backbone = 1 + _below(n - 1, rng)
    A = _empty(n)
    A[:backbone, :backbone] = _line(backbone)
    A[_below(backbone, rng, n - backbone), np.arange(backbone, n)] = True
    return A


def _lobster(n: int, rng: np.random.Generator) -> np.ndarray:
    backbone = 1 + _below(n - 1, rng)
    first = backbone + 1 + _below(n - backbone, rng)  # nodes of the backbone and next to it
    A = _empty(n)
    A[:backbone, :backbone] = _line(backbone)
    A[_below(backbone, rng, first - backbone), np.arange(backbone, first)] = True
    A[backbone + _below(first - backbone, rng, n - first), np.arange(first, n)] = True
    return A


_BUILD: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "erdos_renyi": _erdos_renyi, "barabasi_albert": _barabasi_albert, "grid": _grid, "caveman": _caveman, "tree": _tree,
    "ladder": _ladder, "line": _line, "star": _star, "caterpillar": _caterpillar, "lobster": _lobster,
}
