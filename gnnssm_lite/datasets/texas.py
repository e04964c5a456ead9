"""Texas, one of the WebKB web-page graphs, with the ten splits of Geom-GCN."""

from __future__ import annotations

from io import BytesIO, StringIO

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import WebKB
from torch_geometric.utils import remove_self_loops, to_undirected

from ._checks import nonnegative_int, true_or_false
from .cache import RawFile, RawFolder, fetch_url, read_raw

NUM_NODES, NUM_CLASSES, NUM_SPLITS = 183, 5, 10

NODES = RawFile(
    "out1_node_feature_label.txt", 624308, "cf5a3ca346cdd1210b8342e22517fcbbdae658065b7a3145f59350e50e6236a3"
)
EDGES = RawFile("out1_graph_edges.txt", 2172, "0fe85183243a78cbee9b85a684f8240963d04d1020d10e9cd2b8cfb25e33b476")

_SPLITS = (
    (698, "7ba77bf7a8856fcc0ab15623a611b8cdce994e820f577da914123fb4f45272b0"),
    (701, "21cc244a96e3c51ad7993afb4dd227f90e467d82b964bb42d7d9fc500a6ef87f"),
    (756, "b9e96a699ccf3a4c31ffbd03e52b25570889833425d20fa44e06c37b327cf61e"),
    (759, "1a7deeb1285009789d5e6045d7e39f7d019c9223d9a75a2b7ce5e26d33b51f63"),
    (702, "b5419ff3fe31adcae66fdb085d4f47d0b188e9436ab59f438632af969aafc674"),
    (691, "68405fd1b9ff6105d99717220ecbd198785e338bf4a73abee722bbc9703d2667"),
    (756, "8ad78b973164e70e5ac0d282e79adcbc6006e373909fbdfd72a13131e09040b8"),
    (693, "a84bcbf997365bddf5fdf72ed49dc7e435e475f8c6210f8cdee7c8581a2bd6df"),
    (762, "65ba65f296f91d40d2d7d3c9369b67415094a7e254c6eee48cd6d6531c586fdf"),
    (693, "4306981d654ad8835c000c1f73fb6c1e60dfe99e26c13a6073f3b0f4cc3ce6ee"),
)
SPLITS = tuple(RawFile(f"texas_split_0.6_0.2_{i}.npz", *known) for i, known in enumerate(_SPLITS))

TEXAS = RawFolder(title="WebKB Texas", path="WebKB/texas/raw", files=(NODES, EDGES, *SPLITS))

HINT = "Texas is not packaged with the project; load_cora() and karate_club() need no download."


def load_texas(split: int = 0, normalize_features: bool = False, download: bool = True) -> Data:
    r"""Texas: web pages of a university department, their words, and the hyperlinks between them.

    How many edges are there? The file has 325 directed hyperlinks, all different (torch-geometric's count). 16 of
    them link a page to itself; the other 309 are the count in Geom-GCN. 30 pairs of pages link to each other both ways,
    so 279 pairs of different pages are linked. ``edge_index`` holds these pairs in both directions, without
    self-loops: 558 columns. Removing the self-loops leaves no page isolated. The paper says 499 edges: no
    count of Texas gives 499. Wisconsin, another graph of WebKB, has 499 (515 hyperlinks, 16 of them self-loops).

    Args:
        split: which of the ten splits of Geom-GCN, 0 to 9.
        normalize_features: divide each row of ``x`` by its sum. Otherwise ``x`` is 0 or 1.
        download: whether the network may be used when the files are neither in ``GNNSSM_DATA`` nor in the cache.

    Shapes:
        ``x`` (183, 1703) float32; ``edge_index`` (2, 558) int64, sorted by row; ``y`` (183,) int64 in 0..4;
        ``train_mask``, ``val_mask``, ``test_mask`` (183,) bool with 87, 59 and 37 ones.

    Returns:
        ``Data`` with the tensors above, ``name``, ``num_classes``, ``split`` (``"geom-gcn 0"``) and ``source``.

    Raises:
        TypeError: ``split`` is not an int, or a flag is not a bool.
        ValueError: ``split`` is not in 0..9.
        DataFileError: a data file is truncated or not the known one; nothing is loaded.
        DataMissingError: the files cannot be had.
        CacheFolderError: the download cannot be stored.

    Source:
        Pei et al. (2020), "Geom-GCN: Geometric Graph Convolutional Networks": graph and splits.
    """
    nonnegative_int("split", split, below=NUM_SPLITS)
    true_or_false("normalize_features", normalize_features)
    true_or_false("download", download)
    raw, source = read_raw(TEXAS, _fetch if download else None, HINT)
    x, y = _read_nodes(raw[NODES.name].decode("ascii"))
    links = np.loadtxt(StringIO(raw[EDGES.name].decode("ascii")), dtype=np.int64, skiprows=1, delimiter="\t")
    edge_index, _ = remove_self_loops(torch.from_numpy(links).t())
    if normalize_features:
        x = x / x.sum(dim=1, keepdim=True)
    data = Data(x=x, edge_index=to_undirected(edge_index, num_nodes=NUM_NODES), y=y)
    with np.load(BytesIO(raw[SPLITS[split].name]), allow_pickle=False) as masks:
        for name in ("train_mask", "val_mask", "test_mask"):
            data[name] = torch.from_numpy(masks[name]).bool()
    data.name, data.num_classes = "Texas", NUM_CLASSES
    data.split, data.source = f"geom-gcn {split}", f"WebKB files ({source})"
    return data


def _read_nodes(text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Words (n, 1703) and classes (n,) from lines ``node <tab> 0,1,0,... <tab> class`` below a header."""
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    flags = np.array([row[1].split(",") for row in rows], dtype=np.float32)
    return torch.from_numpy(flags), torch.tensor([int(row[2]) for row in rows])


def _fetch(file: RawFile) -> bytes:
    folder = "splits" if file in SPLITS else "new_data/texas"
    return fetch_url(f"{WebKB.url}/{folder}/{file.name}", file)
