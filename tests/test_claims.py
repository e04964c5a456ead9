"""The claims ledger points at things that exist, says what the result files say, and misses no claim of the paper."""
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("claims_ledger", ROOT / "book" / "_ext" / "ledger.py")
ledger = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ledger)

LEDGER = ledger.load()
CLAIMS = {entry["id"]: entry for entry in LEDGER["claims"]}
CHAPTERS = {chapter["number"] for chapter in LEDGER["chapters"]}

STATEMENTS = {          # id -> its number in the appendix, where the paper states it twice
    "lemma-3.1": "Lemma A.4", "theorem-3.2": "Theorem A.5", "proposition-3.3": "Proposition A.6",
    "lemma-4.1": "Lemma A.9", "lemma-a.8": None, "proposition-4.2": "Proposition A.10",
    "proposition-4.3": "Proposition A.11", "theorem-5.1": None,
}
FIGURES = range(1, 17)
COLUMNS = {1: ("func", "struct"), 2: ("diameter", "sssp", "eccentricity"), 4: ("diameter", "sssp", "eccentricity")}
ROWS = {
    1: ("gcn", "kgcn-ssm", "plus", "no-ssm", "no-khop", "drew-gcn", "drew-gcn-delay"),
    2: ("gcn", "ssm", "ssm-eig1", "ssm-eig1-khop", "drew-gcn", "drew-gcn-delay"),
    3: ("optimizer", "learning-rate", "weight-decay", "layers", "width", "activation", "eig"),
    4: ("gcn", "gat", "graphsage", "gin", "gcnii", "dgc", "grand", "graphcon", "adgn", "swan", "phdgn", "gps",
        "drew-gcn", "drew-gcn-delay", "gcn-ssm", "gcn-ssm-eig1", "gcn-ssm-eig1-khop"),
}
TABLE_2_IN_4 = {"gcn": "gcn", "ssm": "gcn-ssm", "ssm-eig1": "gcn-ssm-eig1", "ssm-eig1-khop": "gcn-ssm-eig1-khop",
                "drew-gcn": "drew-gcn", "drew-gcn-delay": "drew-gcn-delay"}


def cells(table):
    columns = COLUMNS.get(table)
    return [f"table-{table}-{row}" + (f"-{c}" if c else "") for row in ROWS[table] for c in columns or ("",)]


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim_is_well_formed_and_its_evidence_exists(claim):
    assert ledger.problems(CLAIMS[claim], CHAPTERS) == []


def test_ids_are_unique():
    assert len(CLAIMS) == len(LEDGER["claims"])


def test_every_numbered_statement_is_in_the_ledger():
    assert {i for i, e in CLAIMS.items() if e["kind"] in ("lemma", "theorem", "proposition")} == set(STATEMENTS)


@pytest.mark.parametrize("claim, twin", STATEMENTS.items())
def test_statement_names_its_twin_in_the_appendix(claim, twin):
    assert CLAIMS[claim].get("also", []) == ([twin] if twin else [])


def test_every_figure_is_in_the_ledger():
    assert {i for i, e in CLAIMS.items() if e["kind"] == "figure"} == {f"figure-{n}" for n in FIGURES}


def test_every_table_cell_is_in_the_ledger():
    wanted = {cell for table in ROWS for cell in cells(table)}
    assert {i for i, e in CLAIMS.items() if e["kind"] == "table"} == wanted


@pytest.mark.parametrize("table", [2, 4])
def test_cells_of_the_readable_tables_hold_the_papers_value(table):
    assert [c for c in cells(table) if not isinstance(CLAIMS[c].get("paper_value"), float)] == []


@pytest.mark.parametrize("row", ROWS[2])
def test_table_2_is_table_4_rounded(row):
    for column in COLUMNS[2]:
        short, full = CLAIMS[f"table-2-{row}-{column}"], CLAIMS[f"table-4-{TABLE_2_IN_4[row]}-{column}"]
        assert short["paper_value"] == pytest.approx(full["paper_value"], abs=5.01e-4)


def test_table_4_has_a_baseline_below_the_proposed_model():
    baseline, proposed = CLAIMS["table-4-phdgn-sssp"], CLAIMS["table-4-gcn-ssm-eig1-khop-sssp"]
    assert baseline["paper_value"] + baseline["paper_std"] < proposed["paper_value"] - proposed["paper_std"]


def test_chapters_are_numbered_from_one():
    assert [c["number"] for c in LEDGER["chapters"]] == list(range(1, 14))


def test_file_is_in_canonical_form():
    text = ledger.LEDGER.read_text(encoding="utf-8")
    assert ledger.dump(LEDGER, ledger.header(text)) == text, "run `python book/_ext/ledger.py fill`"


# -- the checker itself, on a small repository of its own ---------------------------------------------------------

@pytest.fixture
def root(tmp_path):
    results = tmp_path / "book" / "results"
    results.mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "book" / "03_spectrum.ipynb").write_text("{}")
    (tmp_path / "tests" / "test_a.py").write_text(
        "import nothing_of_this_name\ndef test_law(): ...\nclass TestB:\n    def test_c(self): ...\ndef helper(): ...\n"
    )
    (results / "runs.csv").write_text("model,depth,score\ngcn,2,0.5\ngcn,2,0.7\ngcn,64,0.1\nssm,64,0.81239\n")
    (results / "runs.json").write_text("{}")
    (results / "bare.csv").write_text("a\n1\n")
    return tmp_path


def entry(**changes):
    fields = {
        "id": "lemma-3.1", "kind": "lemma", "statement": "A law.", "section": "3.2", "chapter": 3,
        "result": "runs.csv",
        "result_query": {"column": "score", "where": {"model": "gcn", "depth": 2}, "stat": "mean"},
        "paper_value": 0.61, "ours": 0.6, "tolerance": 0.02, "status": "holds",
    } | changes
    return {k: fields[k] for k in (*ledger.FIELDS, *fields) if fields.get(k) is not None}


ONE_ROW = {"column": "score", "where": {"model": "ssm"}, "stat": "value"}


@pytest.mark.parametrize("good", [
    {},
    {"test": "tests/test_a.py::test_law"},
    {"test": ["tests/test_a.py::TestB::test_c", "tests/test_a.py::test_law[case-1]"]},
    {"result_query": ONE_ROW, "ours": 0.8124, "paper_value": None},
    {"result_query": {"column": "score", "stat": "min"}, "ours": 0.1, "status": "differs", "note": "Lower."},
    {"result_query": {"column": "model", "where": {"depth": 64, "score": 0.1}}, "ours": "gcn"},
    {"status": "open", "chapter": 5},
], ids=str)
def test_checker_accepts(root, good):
    assert ledger.problems(entry(**good), {3, 5}, root) == []


@pytest.mark.parametrize("bad, words", [
    ({"ours": 0.61}, "ours is 0.61"),
    ({"result_query": ONE_ROW, "ours": 0.81}, "ours is 0.81"),
    ({"ours": None}, "ours is missing"),
    ({"paper_value": 0.7}, "above the tolerance"),
    ({"tolerance": None}, "needs a tolerance"),
    ({"result": "gone.csv"}, "does not exist"),
    ({"result": "bare.csv"}, "no provenance"),
    ({"result": "../runs.csv"}, "name of a CSV file"),
    ({"result_query": None}, "result_query must be"),
    ({"result_query": {"column": "loss"}}, "no column 'loss'"),
    ({"result_query": {"column": "score", "where": {"model": "gat"}}}, "no row"),
    ({"result_query": {"column": "score", "where": {"model": "gcn"}}}, "exactly one"),
    ({"result_query": {"column": "score", "stat": "eval"}}, "stat must be"),
    ({"result": None, "result_query": None}, "typed in"),
    ({"result": None, "result_query": None, "ours": None}, "needs evidence"),
    ({"test": "tests/test_a.py::test_gone"}, "does not exist"),
    ({"test": "tests/test_a.py::helper"}, "does not exist"),
    ({"test": "tests/test_gone.py::test_law"}, "does not exist"),
    ({"chapter": 5}, "has no file"),
    ({"chapter": 14}, "chapter must be"),
    ({"status": "proved"}, "status must be"),
    ({"status": "differs"}, "needs a note"),
    ({"kind": "table"}, "label is missing"),
    ({"statement": None}, "statement is missing"),
    ({"colour": "red"}, "unknown field"),
], ids=str)
def test_checker_refuses(root, bad, words):
    found = ledger.problems(entry(**bad), {3, 5}, root)
    assert any(words in problem for problem in found), found


def test_checker_refuses_an_id_that_is_used_twice(root):
    twice = {"chapters": [{"number": 3}], "claims": [entry(), entry()]}
    assert ledger.ledger_problems(twice, root) == ["lemma-3.1: the id is used 2 times"]


def test_fill_takes_the_value_from_the_file(root):
    claim = entry(result_query=ONE_ROW, ours=0.5)
    ledger.fill(claim, root)
    assert claim["ours"] == 0.8124


@pytest.fixture
def ruled(root):
    """A claim about a result file that gives the verdict itself, with one row for each state of things."""
    path = root / "book" / "results" / "ruled.csv"
    path.write_text("cell,score,tolerance,verdict,note\nmet,0.6,0.02,holds,Within.\nmissed,0.9,0.02,differs,Outside.\nempty,,0.02,open,\n")
    path.with_suffix(".json").write_text("{}")
    return lambda cell, **changes: entry(result="ruled.csv", result_query={"column": "score", "where": {"cell": cell}}, **changes)


@pytest.mark.parametrize("cell, ours, status, note", [
    ("met", 0.6, "holds", "Within."), ("missed", 0.9, "differs", "Outside."), ("empty", None, "open", None)])
def test_fill_takes_the_verdict_of_a_file_that_rules(root, ruled, cell, ours, status, note):
    claim = ruled(cell, ours=0.1, status="differs", note="Typed.", tolerance=0.5)
    ledger.fill(claim, root)
    assert (claim["ours"], claim["status"], claim["note"], claim["tolerance"]) == (ours, status, note, 0.02)
    assert ledger.problems(entry(**claim), {3, 5}, root) == []


@pytest.mark.parametrize("cell, typed, words", [
    ("missed", {"ours": 0.9, "status": "holds", "note": "Outside."}, "status is 'holds', but ruled.csv says 'differs'"),
    ("met", {"note": "Typed."}, "note is 'Typed.', but ruled.csv says 'Within.'"),
    ("empty", {"ours": None, "status": "holds", "note": None}, "status is 'holds', but ruled.csv says 'open'"),
    ("empty", {"ours": 0.6, "status": "open"}, "ours is 0.6")])
def test_checker_refuses_a_verdict_that_is_not_that_of_the_file(root, ruled, cell, typed, words):
    found = ledger.problems(ruled(cell, **typed), {3, 5}, root)
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize("number", [2, 4])
def test_every_cell_of_the_published_tables_is_judged_by_the_recorded_comparison(number):
    cells = [claim for claim in CLAIMS.values() if claim["id"].startswith(f"table-{number}-")]
    assert {c["result"] for c in cells} == {"published_tables.csv"} and len(cells) == {2: 18, 4: 51}[number]
    wheres = [c["result_query"]["where"] for c in cells]
    assert all(w["table"] == number and f"{w['row']}, {w['column']}" == c["label"].replace("SSSP", "sssp")
               for w, c in zip(wheres, cells, strict=True))
