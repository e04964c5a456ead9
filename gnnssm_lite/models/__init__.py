"""Layers, and the state-space model around them."""
from .convolutions import GAT, GCN, GIN, GatedGCN, GraphLayer, GraphSAGE
from .dynamical import ADGN, DGC, GCNII, GRAND, PHDGN, SWAN, GraphCON
from .multihop import DelayGCN, DRewGCN, batch_shell_operators, companion_matrix, delay_state_space, kGCN, shell_operators
from .networks import Network, Residual, build, names, options_of
from .recurrence import GNNSSM, haar_orthogonal, recurrent_step, state_generator, state_matrix
from .transformer import GPS

__all__ = [
    "ADGN", "DGC", "DRewGCN", "DelayGCN", "GAT", "GCN", "GCNII", "GIN", "GNNSSM", "GPS", "GRAND", "GatedGCN",
    "GraphCON", "GraphLayer", "GraphSAGE", "Network", "PHDGN", "Residual", "SWAN", "batch_shell_operators", "build",
    "companion_matrix", "delay_state_space", "haar_orthogonal", "kGCN", "names", "options_of", "recurrent_step",
    "shell_operators", "state_generator", "state_matrix",
]
