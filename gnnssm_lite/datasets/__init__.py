"""Data sets as torch-geometric ``Data``. Importing this downloads and reads nothing."""

from .cache import CacheFolderError, DataFileError, DataMissingError, cache_dir, cached, data_dir
from .cora import load_cora
from .karate import karate_club
from .properties import (
    PropertyBatch,
    constant_errors,
    constant_scores,
    graph_properties,
    graph_property_batches,
    label_maximum,
    load_released,
    released_columns,
    sssp_floor,
)
from .texas import load_texas
from .transfer import (
    TransferTask,
    clique_path_transfer,
    crossed_ring_transfer,
    line_transfer,
    ring_transfer,
    transfer_task,
)

__all__ = [
    "CacheFolderError",
    "DataFileError",
    "DataMissingError",
    "PropertyBatch",
    "TransferTask",
    "cache_dir",
    "cached",
    "clique_path_transfer",
    "constant_errors",
    "constant_scores",
    "crossed_ring_transfer",
    "data_dir",
    "graph_properties",
    "graph_property_batches",
    "karate_club",
    "label_maximum",
    "line_transfer",
    "load_cora",
    "load_released",
    "load_texas",
    "released_columns",
    "ring_transfer",
    "sssp_floor",
    "transfer_task",
]
