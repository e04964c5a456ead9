"""Where data lives, and the proof that it is the data we mean.

A data set is looked for in this order:

1. the folder named by ``GNNSSM_DATA``, laid out as torch-geometric lays it out (only ever read);
2. the user cache: ``GNNSSM_CACHE`` if set, else the platform's cache folder plus ``gnnssm_lite``;
3. a download into the user cache, where the caller allows one.

Three rules hold everywhere. A raw file is read once, compared with its known size and SHA-256, and parsed from those
same bytes, so nothing is unpickled or half-loaded that is not the known file. A file or folder appears in the cache
whole or not at all (written beside its place, then renamed). Writers hold a lock, so processes may ask at once.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import urllib.request
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

DATA_VARIABLE = "GNNSSM_DATA"
CACHE_VARIABLE = "GNNSSM_CACHE"
LOCK_SECONDS = 1800
DOWNLOAD_SECONDS = 20


class DataFileError(ValueError):
    """A data file is not the known one: missing from its folder, truncated, or different."""


class DataMissingError(FileNotFoundError):
    """A data set is in none of the places where data lives. The message says what to set."""


class CacheFolderError(OSError):
    """The cache folder cannot be written. The message names the folder and the variable that moves it."""


@dataclass(frozen=True)
class RawFile:
    """One raw file: its name, its size in bytes and the SHA-256 of its content."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class RawFolder:
    """The raw files of one data set. ``path`` is relative, in torch-geometric's layout."""

    title: str
    path: str
    files: tuple[RawFile, ...]


Fetch = Callable[[RawFile], bytes]


def data_dir() -> Path | None:
    """Folder named by ``GNNSSM_DATA``, or None when the variable is not set.

    Raises:
        ValueError: the variable is set and names no folder.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{DATA_VARIABLE} must name an existing folder; it is {value!r}")
    return folder


def cache_dir() -> Path:
    """Folder of the user cache: ``GNNSSM_CACHE``, else the platform's place. It may not exist yet."""
    value = os.environ.get(CACHE_VARIABLE)
    if value:
        return Path(value).expanduser()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "gnnssm_lite"


def check_bytes(content: bytes, expected: RawFile, where: str) -> bytes:
    """Return ``content`` if it is the known file.

    Args:
        content: what was read.
        expected: the known name, size and SHA-256.
        where: the path or address that the error names.

    Raises:
        DataFileError: size or checksum differ.
    """
    if len(content) != expected.size:
        raise _wrong(where, "size", f"{expected.size} bytes", f"{len(content)} bytes")
    found = hashlib.sha256(content).hexdigest()
    if found != expected.sha256:
        raise _wrong(where, "SHA-256", expected.sha256, found)
    return content


def read_checked(path: Path, expected: RawFile) -> bytes:
    """Content of the file ``path``, which must be the known one.

    Raises:
        DataFileError: the file is missing, truncated, too long or different.
    """
    try:
        size = path.stat().st_size
        # A file of the wrong size is refused unread: it may be of any length.
        if size != expected.size:
            raise _wrong(str(path), "size", f"{expected.size} bytes", f"{size} bytes")
        content = path.read_bytes()
    except FileNotFoundError:
        raise _wrong(str(path), "file", f"a file of {expected.size} bytes", "none") from None
    return check_bytes(content, expected, str(path))


def _wrong(where: str, what: str, expected: str, found: str) -> DataFileError:
    return DataFileError(
        f"{where}: wrong {what}; expected {expected}, found {found}. Nothing was loaded. "
        "Delete the file (or its folder, in the cache) and get it again."
    )


def read_raw(folder: RawFolder, fetch: Fetch | None = None, hint: str = "") -> tuple[dict[str, bytes], str]:
    """Read and check every file of a raw folder.

    Args:
        folder: the files and their checksums.
        fetch: downloads one file; None never downloads.
        hint: what else the reader can do, added to the message when there is no data.

    Returns:
        The content by file name, and where it came from: ``"GNNSSM_DATA"``, ``"user cache"`` or ``"download"``.

    Raises:
        DataFileError: a file is missing beside the others, truncated or different.
        DataMissingError: the data are nowhere, and no download was allowed or it failed.
        CacheFolderError: a download cannot be stored.
    """
    found = _find(folder)
    if found is None:
        return _read_folder(_download(folder, fetch, hint), folder), "download"
    path, source = found
    return _read_folder(path, folder), source


def _find(folder: RawFolder) -> tuple[Path, str] | None:
    for root, source in ((data_dir(), DATA_VARIABLE), (cache_dir(), "user cache")):
        if root is not None and _holds_some(root / folder.path, folder):
            return root / folder.path, source
    return None


def _holds_some(path: Path, folder: RawFolder) -> bool:
    return any((path / file.name).exists() for file in folder.files)


def _read_folder(path: Path, folder: RawFolder) -> dict[str, bytes]:
    return {file.name: read_checked(path / file.name, file) for file in folder.files}


def _download(folder: RawFolder, fetch: Fetch | None, hint: str) -> Path:
    if fetch is None:
        raise _missing(folder, "a download was not asked for", hint)
    target = cache_dir() / folder.path
    with _locked(target):
        # Another process may have finished while this one waited for the lock.
        if not _holds_some(target, folder):
            try:
                content = {file.name: fetch(file) for file in folder.files}
            except (OSError, http.client.HTTPException) as error:
                raise _missing(folder, f"the download failed ({_reason(error)})", hint) from error
            for file in folder.files:
                check_bytes(content[file.name], file, f"{file.name} (downloaded)")
            with _writing(target):
                _store_folder(target, content)
    return target


def _store_folder(target: Path, content: Mapping[str, bytes]) -> None:
    part = target.with_name(target.name + ".part")
    # The lock is ours, so an older ".part" was left by a process that was killed.
    if part.exists():
        shutil.rmtree(part)
    part.mkdir()
    for name, data in content.items():
        (part / name).write_bytes(data)
    if target.exists():
        target.rmdir()
    os.replace(part, target)


def _missing(folder: RawFolder, why: str, hint: str) -> DataMissingError:
    value = os.environ.get(DATA_VARIABLE)
    state = f"is {value!r}" if value else "is not set"
    names = f"{folder.files[0].name}, … ({len(folder.files)} files)"
    return DataMissingError(
        f"{folder.title} is neither in {DATA_VARIABLE} ({state}) nor in the cache {cache_dir()}, and {why}. "
        f"Set {DATA_VARIABLE} to a folder that holds {folder.path} with {names}. {hint}".rstrip()
    )


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def fetch_url(url: str, expected: RawFile, seconds: float = DOWNLOAD_SECONDS) -> bytes:
    """Content at ``url``, at most one byte more than the known size. The caller checks it.

    torch-geometric's own loaders know the addresses but not a timeout, and they unpickle what they get at once.

    Raises:
        OSError: no connection, or no answer within ``seconds``.
    """
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.read(expected.size + 1)


def cached(
    name: str, build: Callable[[], Mapping[str, np.ndarray]], key: Mapping[str, object] | None = None
) -> dict[str, np.ndarray]:
    """Arrays that ``build()`` makes, made once and then read from the cache.

    Args:
        name: what the data are; letters, digits, ``-`` and ``_``.
        build: makes the arrays by name; called only when the cache has none.
        key: the parameters that decide the result (JSON values). Another key is another file, so put a version
            number here and raise it whenever ``build`` changes.

    Returns:
        The arrays by name. A stored file that fails its checksum is named in a warning and built again.

    Raises:
        ValueError: ``name`` has other characters.
        TypeError: ``build`` made something other than plain arrays, or ``key`` is not JSON.
        CacheFolderError: the cache cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"name must consist of letters, digits, '-' and '_'; it is {name!r}")
    try:
        label = json.dumps(dict(key or {}), sort_keys=True)
    except TypeError as error:
        raise TypeError(f"key must hold JSON values; it is {key!r} ({error})") from error
    path = cache_dir() / "generated" / f"{name}-{hashlib.sha256(label.encode()).hexdigest()[:16]}.npz"
    # A file appears whole or not at all, so reading one needs no lock, and its folder may be read-only.
    arrays, _ = _load_arrays(path)
    return _build_and_store(path, build) if arrays is None else arrays


def _build_and_store(path: Path, build: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    with _locked(path):
        # Another process may have built the data while this one waited for the lock.
        arrays, why = _load_arrays(path)
        if arrays is None:
            if why:
                warnings.warn(f"{path}: {why}; the data are built again", stacklevel=3)
            arrays = _plain_arrays(build())
            with _writing(path):
                _store_arrays(path, arrays)
    return arrays


def _plain_arrays(made: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(value) for name, value in made.items()}
    for name, array in arrays.items():
        # Objects could only be stored as a pickle.
        if array.dtype.hasobject:
            raise TypeError(f"build() must make plain arrays; {name!r} has dtype {array.dtype}")
    return arrays


def _arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _store_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = BytesIO()
    np.savez_compressed(buffer, sha256=np.array(_arrays_digest(arrays)), **{f"data.{k}": v for k, v in arrays.items()})
    write_atomic(path, buffer.getvalue())


def _load_arrays(path: Path) -> tuple[dict[str, np.ndarray] | None, str]:
    """The arrays, or None and what is wrong with the file (nothing when there is none)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name.removeprefix("data."): stored[name] for name in stored.files if name != "sha256"}
            if str(stored["sha256"]) == _arrays_digest(arrays):
                return arrays, ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        return None, _reason(error)
    return None, "its checksum is not the stored one"


def write_atomic(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the whole new one, never a part."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of one place in the cache; the system frees it when the process dies."""
    lock = FileLock(f"{path}.lock", timeout=LOCK_SECONDS)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn any failure to write in the cache into one message that says what to set."""
    try:
        yield
    except Timeout as error:
        raise CacheFolderError(
            f"{path}.lock: another process has held this lock for {LOCK_SECONDS} s. Wait for that process or end it."
        ) from error
    except OSError as error:
        raise CacheFolderError(
            f"cannot write the cache folder {path.parent} ({_reason(error)}). "
            f"Set {CACHE_VARIABLE} to a folder that you may write."
        ) from error
