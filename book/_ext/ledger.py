"""The claims ledger: what the paper claims, what we found, and the evidence for it.

``book/claims.yml`` is the only place where a claim's state is written down. This module reads and checks it; the tests
(``tests/test_claims.py``) and the Sphinx extension ``ledger_page`` both use it. It needs nothing but PyYAML.

From the repository's root::

    python book/_ext/ledger.py check                       every problem, one a line
    python book/_ext/ledger.py set lemma-3.1 test=tests/test_jacobian.py::test_x status=holds
    python book/_ext/ledger.py fill                        read `ours` again from every result file
"""
from __future__ import annotations

import ast
import csv
import math
import re
import statistics
import sys
from functools import lru_cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "book" / "claims.yml"

STATUSES = ("holds", "holds with a correction", "differs", "open")
KINDS = ("lemma", "theorem", "proposition", "figure", "table", "prose")
REQUIRED = ("id", "kind", "statement", "section", "chapter", "status")
# The order in which an entry's fields are written. Those not in REQUIRED are left out when empty.
FIELDS = (
    "id", "kind", "label", "statement", "section", "also", "chapter", "test", "result", "result_query", "measure",
    "paper_value", "paper_std", "paper_value_quoted", "ours", "tolerance", "status", "note",
)
STATS = {"mean": statistics.fmean, "max": max, "min": min, "std": statistics.stdev}
DIGITS = 4          # significant digits to which `ours` repeats the value of the result file


# -- reading ------------------------------------------------------------------------------------------------------

def load(path: Path = LEDGER) -> dict:
    """The ledger as a dictionary with the lists ``chapters`` and ``claims``."""
    ledger = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(ledger, dict) or not all(isinstance(ledger.get(k), list) for k in ("chapters", "claims")):
        raise ValueError(f"{path.name} must be a mapping with the lists 'chapters' and 'claims'")
    return ledger


def chapter_file(number: int, book: Path = ROOT / "book") -> Path | None:
    """The file of a chapter (``03_….ipynb``), or None while it is not written."""
    found = [p for p in sorted(book.glob(f"{number:02d}_*")) if p.suffix in (".ipynb", ".md")]
    return found[0] if found else None


def as_list(value) -> list:
    """A field that holds one item or a list of them, as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


# -- evidence -----------------------------------------------------------------------------------------------------

@lru_cache
def names_of_tests(path: Path) -> frozenset[str]:
    """Names of the tests of a file, ``test_x`` or ``TestY::test_x``, read without importing it."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, functions):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{inner.name}" for inner in node.body if isinstance(inner, functions)}
    return frozenset(n for n in names if n.split("::")[-1].startswith("test"))


def has_test(node_id: str, root: Path = ROOT) -> bool:
    """Whether pytest would find ``tests/test_file.py::test_name`` (a parameter in brackets is ignored)."""
    file, _, name = node_id.partition("::")
    path = root / file
    return path.is_file() and path.suffix == ".py" and name.partition("[")[0] in names_of_tests(path)


def _matches(cell: str, wanted) -> bool:
    try:
        return float(cell) == float(wanted)
    except (TypeError, ValueError):
        return cell == str(wanted)


def query(path: Path, column: str, where: dict | None = None, stat: str = "value"):
    """One value from a CSV file.

    Args:
        path: the file; its first line names the columns.
        column: the column to read.
        where: column -> value; only rows that agree in all of them count. Numbers compare as numbers.
        stat: ``mean``, ``max``, ``min``, ``std`` (of a sample), or ``value`` for the one row that is left.

    Raises:
        ValueError: a column is missing, no row is left, or ``value`` finds more than one.
    """
    where = where or {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [c for c in (column, *where) if c not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path.name} has no column {missing[0]!r}; it has {reader.fieldnames}")
        cells = [row[column] for row in reader if all(_matches(row[c], v) for c, v in where.items())]
    if not cells:
        raise ValueError(f"{path.name} has no row where {where}")
    if stat == "value":
        if len(cells) > 1:
            raise ValueError(f"{path.name} has {len(cells)} rows where {where}; stat 'value' needs exactly one")
        try:
            return float(cells[0])
        except ValueError:
            return cells[0]
    if stat not in STATS:
        raise ValueError(f"stat must be one of {[*STATS, 'value']}, got {stat!r}")
    if stat == "std" and len(cells) < 2:
        raise ValueError(f"{path.name} has one row where {where}; stat 'std' needs at least two")
    return STATS[stat]([float(c) for c in cells])


def computed_value(entry: dict, root: Path = ROOT):
    """What the result file of an entry says, or None when the entry names no result file."""
    if entry.get("result") is None:
        return None
    spec = entry.get("result_query")
    if not isinstance(spec, dict) or "column" not in spec or set(spec) - {"column", "where", "stat"}:
        raise ValueError(f"result_query must be {{column, where, stat}}, got {spec!r}")
    return query(root / "book" / "results" / entry["result"], **spec)


def ruled_fields(entry: dict, root: Path = ROOT) -> dict:
    """``status``, ``note`` and ``tolerance`` of an entry whose result file has a column ``verdict``, else nothing.

    There an experiment has given the verdict by a rule that it states, and the ledger repeats it.
    """
    path = root / "book" / "results" / entry["result"]
    with path.open(newline="", encoding="utf-8") as file:
        if "verdict" not in (csv.DictReader(file).fieldnames or ()):
            return {}
    where = entry["result_query"].get("where")
    columns = {"status": "verdict", "note": "note", "tolerance": "tolerance"}
    found = {key: rounded(query(path, column, where)) for key, column in columns.items()}
    return {key: None if value == "" else value for key, value in found.items()}


def rounded(value):
    """``value`` to the number of digits that the ledger keeps."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


# -- checking -----------------------------------------------------------------------------------------------------

def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shape_problems(entry: dict, chapters: set[int]) -> list[str]:
    found = [f"unknown field {k!r}" for k in entry if k not in FIELDS]
    found += [f"{k} is missing" for k in REQUIRED if entry.get(k) in (None, "")]
    if [k for k in entry if k in FIELDS] != [k for k in FIELDS if k in entry]:
        found.append(f"fields must stand in the order {', '.join(k for k in FIELDS if k in entry)}")
    if entry.get("kind") not in KINDS:
        found.append(f"kind must be one of {KINDS}, got {entry.get('kind')!r}")
    if entry.get("kind") in ("table", "prose") and not entry.get("label"):
        found.append(f"label is missing; a {entry['kind']} entry needs one")
    if entry.get("status") not in STATUSES:
        found.append(f"status must be one of {STATUSES}, got {entry.get('status')!r}")
    if entry.get("chapter") not in chapters:
        found.append(f"chapter must be one of {sorted(chapters)}, got {entry.get('chapter')!r}")
    return found


def _file_problems(entry: dict, root: Path) -> list[str]:
    found = []
    if entry.get("status") != "open" and chapter_file(entry["chapter"], root / "book") is None:
        found.append(f"chapter {entry['chapter']} has no file in book/, so the status must be 'open'")
    found += [f"test {t!r} does not exist" for t in as_list(entry.get("test")) if not has_test(t, root)]
    name = entry.get("result")
    if name is not None:
        path = root / "book" / "results" / name
        if Path(name).name != name or path.suffix != ".csv":
            found.append(f"result must be the name of a CSV file in book/results, got {name!r}")
        elif not path.is_file():
            found.append(f"result file book/results/{name} does not exist")
        elif not path.with_suffix(".json").is_file():
            found.append(f"result file book/results/{name} has no provenance {path.stem}.json beside it")
    return found


def _value_problems(entry: dict, root: Path) -> list[str]:
    ours, name = entry.get("ours"), entry.get("result")
    if name is None:
        return ["ours is typed in; it needs a result file and a result_query"] if ours is not None else []
    if not (root / "book" / "results" / name).is_file():
        return []
    try:
        value = computed_value(entry, root)
    except ValueError as error:
        return [str(error)]
    ruled = [f"{key} is {entry.get(key)!r}, but {name} says {value!r}"
             for key, value in ruled_fields(entry, root).items() if value != entry.get(key)]
    if ours is None:
        return ruled + ([f"ours is missing; {name} says {value!r}"] if value != "" else [])
    if _is_number(ours) and _is_number(value):
        close = math.isclose(ours, value, rel_tol=0.51 * 10 ** (1 - DIGITS))
        close = close and abs(ours - value) <= entry.get("tolerance", math.inf)
    else:
        close = ours == value
    return ruled + ([] if close else [f"ours is {ours!r}, but {name} says {value!r}"])


def _verdict_problems(entry: dict) -> list[str]:
    status, paper, ours = entry.get("status"), entry.get("paper_value"), entry.get("ours")
    if status == "open":
        return []
    found = []
    if entry.get("test") is None and (entry.get("result") is None or ours is None):
        found.append(f"status {status!r} needs evidence: a test, or a result file with a query and ours")
    if status in ("holds with a correction", "differs") and not entry.get("note"):
        found.append(f"status {status!r} needs a note that says how")
    if status == "holds" and _is_number(paper) and _is_number(ours):
        tolerance = entry.get("tolerance")
        if tolerance is None:
            found.append("status 'holds' with two numbers needs a tolerance")
        elif abs(ours - paper) > tolerance:
            found.append(f"status 'holds', but |{ours} - {paper}| is above the tolerance {tolerance}")
    return found


def problems(entry: dict, chapters: set[int], root: Path = ROOT) -> list[str]:
    """Everything that is wrong with one entry, in words; empty when nothing is."""
    found = _shape_problems(entry, chapters)
    return found or _file_problems(entry, root) + _value_problems(entry, root) + _verdict_problems(entry)


def ledger_problems(ledger: dict, root: Path = ROOT) -> list[str]:
    """The problems of all entries, each with its id, and ids that are used twice."""
    chapters = {c["number"] for c in ledger["chapters"]}
    ids = [e.get("id") for e in ledger["claims"]]
    found = [f"{i}: the id is used {ids.count(i)} times" for i in sorted(set(map(str, ids))) if ids.count(i) > 1]
    return found + [f"{e.get('id')}: {p}" for e in ledger["claims"] for p in problems(e, chapters, root)]


# -- writing ------------------------------------------------------------------------------------------------------

def _field(key: str, value) -> str:
    if isinstance(value, (dict, list)):
        flow = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf)
        return f"{key}: {flow}"
    return yaml.safe_dump({key: value}, allow_unicode=True, width=110)


def _entry(entry: dict) -> str:
    lines = "".join(_field(k, entry[k]) for k in FIELDS if entry.get(k) is not None).splitlines()
    return "\n".join(("- " if i == 0 else "  ") + line for i, line in enumerate(lines)) + "\n"


def dump(ledger: dict, header: str) -> str:
    """The ledger as text: the comment at its head, one line a chapter, one block a claim."""
    chapters = "".join(f"- {_field('x', c)[3:]}" for c in ledger["chapters"])
    return f"{header}chapters:\n{chapters}\nclaims:\n" + "\n".join(_entry(e) for e in ledger["claims"])


def header(text: str) -> str:
    """The comment at the head of the ledger's text."""
    return re.match(r"(?:(?:#.*)?\n)*", text)[0]


def fill(entry: dict, root: Path = ROOT) -> None:
    """Set ``ours`` to what the result file says, and what else it has to say (:func:`ruled_fields`)."""
    if entry.get("result") is not None:
        ours = rounded(computed_value(entry, root))
        entry["ours"] = None if ours == "" else ours
        entry.update(ruled_fields(entry, root))


def main(args: list[str]) -> int:
    text, ledger = LEDGER.read_text(encoding="utf-8"), load()
    command, *rest = args or ["check"]
    if command == "set" and rest:
        entry = next((e for e in ledger["claims"] if e["id"] == rest[0]), None)
        if entry is None:
            raise SystemExit(f"no claim has the id {rest[0]!r}")
        for pair in rest[1:]:
            key, _, value = pair.partition("=")
            if key not in FIELDS:
                raise SystemExit(f"no field is named {key!r}; there are {', '.join(FIELDS)}")
            literal = value == "null" or value[:1] in tuple("{[-.0123456789")
            entry[key] = yaml.safe_load(value) if literal else value
        fill(entry)
    elif command == "fill":
        for entry in ledger["claims"]:
            fill(entry)
    elif command != "check":
        raise SystemExit(__doc__)
    if command != "check":
        LEDGER.write_text(dump(ledger, header(text)), encoding="utf-8")
        ledger = load()
    found = ledger_problems(ledger)
    print("\n".join(found) or f"{len(ledger['claims'])} claims, no problem")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
