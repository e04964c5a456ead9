"""Layers, and the state-space model around them."""
from .convolutions import GAT, GCN, GIN, GatedGCN, GraphLayer, GraphSAGE
from .networks import Network, Residual, build, names
from .recurrence import GNNSSM, haar_orthogonal, recurrent_step, state_matrix

__all__ = ["GAT", "GCN", "GIN", "GNNSSM", "GatedGCN", "GraphLayer", "GraphSAGE", "Network", "Residual", "build", "haar_orthogonal", "names",
           "recurrent_step", "state_matrix"]
