"""Set the repository's address wherever the project names it, and the set-up cell of every chapter.

    python .ci/set_repository.py https://github.com/me/my-fork     write a new address everywhere
    python .ci/set_repository.py --sync                            write the set-up cell into every chapter
    python .ci/set_repository.py                                   print the current address

The address and the set-up cell have one source, ``.ci/setup_cell.py``; everything else is rewritten from it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(".ci/setup_cell.py")
ADDRESS = re.compile(r'^REPOSITORY = "(.+)"$', re.MULTILINE)
NAMES_IT = ("*.md", "*.toml", "*.cff", "*.yml", ".ci/setup_cell.py", "book/*.md", "book/*.ipynb", "gnnssm_lite/**/*.py")
METADATA = {"cellView": "form", "tags": ["hide-cell"]}


def setup_cell(root: Path = ROOT) -> str:
    """The source of the cell that every chapter starts with."""
    return (root / SOURCE).read_text(encoding="utf-8").rstrip("\n")


def current_address(root: Path = ROOT) -> str:
    return ADDRESS.search(setup_cell(root))[1]


def chapters(root: Path = ROOT) -> list[Path]:
    return sorted((root / "book").glob("[0-9][0-9]_*.ipynb"))


def cleaned(address: str) -> str:
    """The address without what a copy from pip or git may carry at its ends."""
    address = address.strip().removeprefix("git+").rstrip("/").removesuffix(".git")
    if not re.fullmatch(r"(https?|ssh|file)://[^\s\"'\\]+", address):
        raise ValueError(f"address must be a URL such as https://github.com/OWNER/gnnssm_lite; got {address!r}")
    return address


def set_address(address: str, root: Path = ROOT) -> list[Path]:
    """Replace the current address in every file that names it; return these files."""
    old, new = current_address(root), cleaned(address)
    # Longer addresses that only begin like the old one are somebody else's.
    whole = re.compile(re.escape(old) + r"(?![\w-])")
    changed = []
    for path in sorted({path for pattern in NAMES_IT for path in root.glob(pattern)}):
        text = path.read_text(encoding="utf-8")
        replaced = whole.sub(lambda _: new, text)
        if replaced != text:
            path.write_text(replaced, encoding="utf-8")
            changed.append(path)
    return changed


def sync(root: Path = ROOT) -> list[Path]:
    """Write the set-up cell into the first code cell of every chapter; return the chapters that changed."""
    lines = setup_cell(root).splitlines(keepends=True)
    changed = []
    for path in chapters(root):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        first = next((i for i, cell in enumerate(cells) if cell["cell_type"] == "code"), len(cells))
        if first == len(cells) or not is_setup(cells[first]):
            first = min(first, 1)
            cells.insert(first, new_code_cell())
        if (cells[first]["source"], cells[first]["metadata"]) != (lines, METADATA):
            cells[first].update(source=lines, metadata=METADATA)
            path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            changed.append(path)
    return changed


def is_setup(cell: dict) -> bool:
    return "".join(cell["source"]).lstrip().startswith("# @title Set-up")


def new_code_cell() -> dict:
    return {"cell_type": "code", "execution_count": None, "id": "set-up", "metadata": {}, "outputs": [], "source": []}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", help="the new address of the repository")
    parser.add_argument("--sync", action="store_true", help="write the set-up cell into every chapter")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project (default: the one this file lies in)")
    arguments = parser.parse_args(argv)
    if not arguments.address and not arguments.sync:
        print(current_address(arguments.root))
        return 0
    try:
        changed = set_address(arguments.address, arguments.root) if arguments.address else []
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    changed += [path for path in sync(arguments.root) if path not in changed]
    for path in changed:
        print(f"rewrote {path.relative_to(arguments.root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
