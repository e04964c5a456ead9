"""Print a command of the README: ``python3 .ci/readme_commands.py book`` or ``… test``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MARKS = {"book": "jupyter-book build", "test": "pytest"}


def commands(readme: str) -> list[str]:
    """Every fenced shell block of the README, in order."""
    return [block.strip() for block in re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", readme, re.M | re.S)]


def command(name: str, root: Path = ROOT) -> str:
    found = [c for c in commands((root / "README.md").read_text(encoding="utf-8")) if MARKS[name] in c]
    if len(found) != 1:
        raise SystemExit(f"README.md must hold exactly one {name} command; it holds {len(found)}")
    return found[0]


if __name__ == "__main__":
    if sys.argv[1:] not in (["book"], ["test"]):
        raise SystemExit(__doc__)
    print(command(sys.argv[1]))
