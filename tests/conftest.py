"""Fixtures shared by the tests: float64 graphs small enough for the dense way, and the largest component of Cora."""

import pytest
import torch

from gnnssm_lite import graphs
from gnnssm_lite.datasets import karate_club, load_cora


def two_components_and_isolated():
    """A triangle, a path of three nodes, and two isolated nodes: 8 nodes in 4 components."""
    return graphs.undirected(torch.tensor([[0, 1, 2, 3, 4], [1, 2, 0, 4, 5]])), 8


def karate():
    data = karate_club()
    return data.edge_index, data.num_nodes


SMALL_GRAPHS = {
    "path": lambda: (graphs.path(9), 9),
    "ring": lambda: (graphs.ring(8), 8),
    "grid": lambda: (graphs.grid(3, 4), 12),
    "complete": lambda: (graphs.complete(6), 6),
    "star": lambda: (graphs.star(7), 7),
    "barbell": lambda: (graphs.barbell(4, 2), 10),
    "binary_tree": lambda: (graphs.binary_tree(3), 15),
    "erdos_renyi": lambda: (graphs.erdos_renyi(14, 0.12, seed=3), 14),
    "disconnected": two_components_and_isolated,
    "no_edges": lambda: (torch.empty(2, 0, dtype=torch.long), 3),
    "one_node": lambda: (graphs.path(1), 1),
    "karate": karate,
}


@pytest.fixture(autouse=True)
def subnormal_numbers():
    """Experiments flush subnormal numbers to zero for the whole process; no test leaves that to the next one."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(params=list(SMALL_GRAPHS))
def graph(request):
    """Every small graph in turn, as ``(edge_index, num_nodes)``."""
    return SMALL_GRAPHS[request.param]()


@pytest.fixture
def grid_graph():
    """One connected graph for tests that need no more."""
    return graphs.grid(3, 4), 12


@pytest.fixture(scope="session")
def cora_component():
    """Largest connected component of Cora, packaged with the project: ``(edge_index, num_nodes)``."""
    cora = load_cora(split="random")
    edge_index, nodes = graphs.largest_component(cora.edge_index, cora.num_nodes)
    return edge_index, len(nodes)
