"""Layers, and the state-space model around them."""
from .convolutions import GAT, GCN, GIN, GatedGCN, GraphLayer, GraphSAGE
from .recurrence import GNNSSM, haar_orthogonal, recurrent_step, state_matrix

__all__ = ["GAT", "GCN", "GIN", "GNNSSM", "GatedGCN", "GraphLayer", "GraphSAGE", "haar_orthogonal", "recurrent_step",
           "state_matrix"]
