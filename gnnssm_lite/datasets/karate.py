"""Zachary's karate club: 34 people, who is friends with whom, and how the club split."""

from __future__ import annotations

import networkx as nx
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import KarateClub
from torch_geometric.utils import to_undirected

from ..checks import check_int

CLUBS = ("Mr. Hi", "Officer")


def karate_club(classes: int = 2) -> Data:
    """Zachary's karate club, made offline from networkx.

    Args:
        classes: 2: the club each member joined after the split (0 Mr. Hi's, 1 the officer's). 4: the communities
            that torch-geometric's ``KarateClub`` labels.

    Shapes:
        ``x`` (34, 34) float32, the identity; ``edge_index`` (2, 156) int64: 78 friendships in both directions, no
        self-loops, sorted by row; ``y`` (34,) int64; ``train_mask`` (34,) bool with one node per class;
        ``test_mask`` (34,) bool, all others.

    Returns:
        ``Data`` with the tensors above, ``name``, ``num_classes`` and ``source``. There is no ``val_mask``: to train with
        :func:`~gnnssm_lite.training.train_node_classifier`, give it masks of your own.

    Raises:
        TypeError: ``classes`` is no integer.
        ValueError: ``classes`` is neither 2 nor 4.

    Source:
        Zachary (1977), "An information flow model for conflict and fission in small groups".
    """
    if check_int("classes", classes, 2) not in (2, 4):
        raise ValueError(f"classes must be 2 or 4; it is {classes!r}")
    graph = nx.karate_club_graph()
    num_nodes = graph.number_of_nodes()
    if classes == 2:
        y = torch.tensor([CLUBS.index(graph.nodes[i]["club"]) for i in range(num_nodes)])
        train_mask = torch.zeros(num_nodes, dtype=torch.bool)
        # The two leaders: the instructor (node 0) and the officer (node 33).
        train_mask[[0, num_nodes - 1]] = True
    else:
        labelled = KarateClub()[0]
        y, train_mask = labelled.y, labelled.train_mask
    return Data(
        x=torch.eye(num_nodes),
        edge_index=to_undirected(torch.tensor(list(graph.edges)).t(), num_nodes=num_nodes),
        y=y,
        train_mask=train_mask,
        test_mask=~train_mask,
        name="Karate club",
        num_classes=classes,
        source="networkx.karate_club_graph",
    )
