r"""Graph transfer: one node holds a class, another node far away must tell it (chapter 9).

Every sample of a task lives on the same graph. The source node holds the one-hot vector of a class, the target node
holds zeros, and every other node holds ones:

.. math:: x_{source} = e_y, \qquad x_{target} = 0, \qquad x_v = 1 \text{ otherwise}

The label ``y`` is read at the target. A network that passes messages along edges, one hop a layer, cannot know it with
fewer layers than there are hops between the two nodes. A network with k-hop coupling can.

There is only one input for each class, so a training set and a test set hold the same ``num_classes`` inputs. The task
measures whether a signal, and its gradient, gets through the network. It does not measure generalisation.

Source: Bodnar et al. (2021) for RingTransfer; Di Giovanni et al. (2023) for the crossed ring and the clique with a
path. The same task is found with the roles of the node numbers swapped: node 0 is then the target. On rings and lines
that is only another numbering.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch_geometric.data import Data

from ..checks import check_choice, check_int
from ..graphs import complete, path, ring, shortest_path_lengths, undirected
from ._checks import nonnegative_int

NUM_GRAPHS, NUM_CLASSES = 1000, 5


@dataclass(frozen=True, eq=False)
class TransferTask:
    """A transfer task in compact form: one graph, many samples of its features.

    Attributes:
        name: which family the graph is from.
        edge_index: ``(2, E)``, both directions of every edge, no self-loops.
        num_nodes: ``n``.
        source: the node that holds the class.
        target: the node that must tell it.
        distance: hops between them; with fewer layers, one hop each, no network can solve the task.
        x: ``(samples, n, num_classes)`` float32.
        y: ``(samples,)`` int64 in ``0 .. num_classes - 1``.
        num_classes: number of classes, which is also the number of features.

    All samples of a class are identical (:meth:`distinct`).
    """

    name: str
    edge_index: Tensor
    num_nodes: int
    source: int
    target: int
    distance: int
    x: Tensor
    y: Tensor
    num_classes: int

    @property
    def num_graphs(self) -> int:
        """Number of samples."""
        return len(self.y)

    @property
    def chance(self) -> float:
        """Best accuracy of an answer that is the same for every sample.

        It is ``1 / num_classes`` if ``num_classes`` divides the number of samples, and a little more otherwise.
        """
        return int(torch.bincount(self.y).max()) / self.num_graphs

    def to(self, device: torch.device | str) -> TransferTask:
        """The task with its tensors on ``device``."""
        return replace(self, edge_index=self.edge_index.to(device), x=self.x.to(device), y=self.y.to(device))

    def distinct(self) -> TransferTask:
        """The task with one sample for each class, in order: ``y`` is ``0 .. num_classes - 1``.

        Samples of a class are identical, so this is all that there is to learn or to test. If every class has equally
        many samples, the mean loss over the task and over its distinct samples is the same function of the weights.
        """
        first = torch.stack([torch.nonzero(self.y == label)[0, 0] for label in range(self.num_classes)])
        return replace(self, x=self.x[first], y=self.y[first])

    def data(self) -> list[Data]:
        """The samples as torch-geometric ``Data``.

        Shapes:
            ``x`` (n, num_classes); ``edge_index`` (2, E), the same tensor in all; ``y`` (1,); ``source_mask`` and
            ``target_mask`` (n,) bool with one node each. In a batch, ``logits[batch.target_mask]`` is in the order of
            ``batch.y``.
        """
        nodes = torch.arange(self.num_nodes, device=self.x.device)
        masks = {"source_mask": nodes == self.source, "target_mask": nodes == self.target}
        return [Data(x=x, edge_index=self.edge_index, y=y.view(1), **masks) for x, y in zip(self.x, self.y, strict=True)]


def transfer_task(name: str, edge_index: Tensor, num_nodes: int, source: int, target: int,
                  num_graphs: int = NUM_GRAPHS, num_classes: int = NUM_CLASSES, seed: int = 0) -> TransferTask:
    """The transfer task between two nodes of any connected graph. The families below are made with it.

    Args:
        name: what the task is called in records and figures.
        edge_index: ``(2, E)``, both directions of every edge.
        num_nodes: number of nodes.
        source, target: two different nodes with a path between them.
        num_graphs: number of samples, at least ``num_classes``. The numbers of samples in two classes differ by at
            most one; they are equal if ``num_classes`` divides ``num_graphs``.
        num_classes: number of classes and of features, at least 2.
        seed: decides the order of the classes and nothing else.

    Returns:
        :class:`TransferTask`, its ``distance`` measured on the graph.

    Raises:
        TypeError, ValueError: bad graph; ``source`` or ``target`` no node of it, equal, or not connected; fewer than
            two classes; fewer samples than classes; ``seed`` no non-negative integer.
    """
    hops = shortest_path_lengths(edge_index, num_nodes, source)
    if not 0 <= check_int("target", target, 0) < num_nodes or target == source:
        raise ValueError(f"target must be a node from 0 to {num_nodes - 1} other than source = {source}; it was {target}")
    if torch.isinf(hops[target]):
        raise ValueError(f"target must be connected to the source; there is no path from {source} to {target}")
    y = _labels(num_graphs, num_classes, seed)
    return TransferTask(name, edge_index, num_nodes, source, target, int(hops[target]),
                        _features(num_nodes, source, target, num_classes)[y], y, num_classes)


def _labels(num_graphs: int, num_classes: int, seed: int) -> Tensor:
    check_int("num_classes", num_classes, 2)
    if check_int("num_graphs", num_graphs, 1) < num_classes:
        raise ValueError(f"num_graphs must be at least num_classes = {num_classes}, one sample a class; "
                         f"it was {num_graphs}")
    nonnegative_int("seed", seed)
    order = torch.randperm(num_graphs, generator=torch.Generator().manual_seed(int(seed)))
    return (torch.arange(num_graphs) % num_classes)[order]


def _features(num_nodes: int, source: int, target: int, num_classes: int) -> Tensor:
    """Features ``(num_classes, n, num_classes)``: one sample for each class."""
    x = torch.ones(num_classes, num_nodes, num_classes)
    x[:, target] = 0
    x[:, source] = torch.eye(num_classes)
    return x


def ring_transfer(num_nodes: int, num_graphs: int = NUM_GRAPHS, num_classes: int = NUM_CLASSES,
                  seed: int = 0) -> TransferTask:
    r"""RingTransfer: from node 0 of a cycle to the node opposite, ``n // 2``.

    .. math:: d(0, \lfloor n/2 \rfloor) = \lfloor n/2 \rfloor

    Two shortest paths lead there if ``n`` is even. If ``n`` is odd there are two opposite nodes, both
    ``(n - 1) / 2`` hops away: the one with the smaller number is the target, one shortest path leads there, and the
    way round the other side is one hop longer.

    Args:
        num_nodes: ``n``, at least 3.
        num_graphs, num_classes, seed: as in :func:`transfer_task`.

    Shapes:
        ``x`` (num_graphs, n, num_classes); ``y`` (num_graphs,); ``edge_index`` (2, 2n).

    Raises:
        TypeError, ValueError: as :func:`transfer_task`; ``num_nodes`` below 3.

    Source: Bodnar et al. (2021); Di Giovanni et al. (2023).
    """
    n = check_int("num_nodes", num_nodes, 3)
    return transfer_task("RingTransfer", ring(n), n, 0, n // 2, num_graphs, num_classes, seed)


def crossed_ring_transfer(num_nodes: int, num_graphs: int = NUM_GRAPHS, num_classes: int = NUM_CLASSES,
                          seed: int = 0) -> TransferTask:
    r"""The ring with crosses: more paths from source to target, none of them shorter.

    Number the two sides of the ring by their hops from the source: ``i`` on one side, ``n - i`` on the other. Each node
    on the way is joined to the node across, one hop further and one hop back:

    .. math:: i \sim n - 1 - i \quad (1 \le i < \lfloor n/2 \rfloor), \qquad
        i \sim n + 1 - i \quad (2 \le i < \lfloor n/2 \rfloor)

    No cross skips a hop, so :math:`d(0, \lfloor n/2 \rfloor) = \lfloor n/2 \rfloor` as on the ring. Source and target
    get no new edge.

    Args, Shapes, Raises: as :func:`ring_transfer`, with ``num_nodes`` at least 5: a smaller ring has nothing to cross.

    Source: Di Giovanni et al. (2023).
    """
    n = check_int("num_nodes", num_nodes, 5)
    i = torch.arange(1, n // 2)
    crosses = torch.cat([torch.stack([i, n - 1 - i]), torch.stack([i[1:], n + 1 - i[1:]])], 1)
    edges = undirected(torch.cat([ring(n), crosses], 1))
    return transfer_task("CrossedRingTransfer", edges, n, 0, n // 2, num_graphs, num_classes, seed)


def line_transfer(num_nodes: int, num_graphs: int = NUM_GRAPHS, num_classes: int = NUM_CLASSES,
                  seed: int = 0) -> TransferTask:
    r"""From one end of a path to the other: :math:`d(0, n - 1) = n - 1`.

    Args, Shapes, Raises: as :func:`ring_transfer`, with ``num_nodes`` at least 2 and ``edge_index`` (2, 2n - 2).
    """
    n = check_int("num_nodes", num_nodes, 2)
    return transfer_task("LineTransfer", path(n), n, 0, n - 1, num_graphs, num_classes, seed)


def clique_path_transfer(num_nodes: int, num_graphs: int = NUM_GRAPHS, num_classes: int = NUM_CLASSES,
                         seed: int = 0, source: str = "path") -> TransferTask:
    r"""A clique with a path (a lollipop): a dense half, a thin half, and the two nodes at their far ends.

    The first ``n // 2`` nodes form a clique, the others a path that starts at the clique's last node. Node 0 of the
    clique and node ``n - 1`` at the end of the path are the two ends:

    .. math:: d(0, n - 1) = n - \lfloor n/2 \rfloor + 1

    Args:
        num_nodes: ``n``, at least 4.
        num_graphs, num_classes, seed: as in :func:`transfer_task`.
        source: ``"path"``: node ``n - 1`` holds the class and node 0 must tell it. ``"clique"``: the other way round.

    Shapes:
        ``x`` (num_graphs, n, num_classes); ``y`` (num_graphs,).

    Raises:
        TypeError, ValueError: as :func:`transfer_task`; ``num_nodes`` below 4; unknown ``source``.

    Source: Di Giovanni et al. (2023).
    """
    n = check_int("num_nodes", num_nodes, 4)
    ends = (n - 1, 0) if check_choice("source", source, ("path", "clique")) == "path" else (0, n - 1)
    clique = n // 2
    edges = undirected(torch.cat([complete(clique), path(n)[:, path(n).min(0).values >= clique - 1]], 1))
    return transfer_task("CliquePathTransfer", edges, n, *ends, num_graphs, num_classes, seed)
