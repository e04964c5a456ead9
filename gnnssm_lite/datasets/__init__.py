"""Data sets as torch-geometric ``Data``. Importing this downloads and reads nothing."""

from .cache import CacheFolderError, DataFileError, DataMissingError, cache_dir, cached, data_dir
from .cora import load_cora
from .karate import karate_club
from .texas import load_texas

__all__ = [
    "CacheFolderError",
    "DataFileError",
    "DataMissingError",
    "cache_dir",
    "cached",
    "data_dir",
    "karate_club",
    "load_cora",
    "load_texas",
]
