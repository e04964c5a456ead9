"""The ledger in the book: two directives for MyST pages.

``claims`` shows the claims as tables, one a kind. ``:kind:`` (one or several, then in one table), ``:chapter:`` and
``:prefix:`` (of the id) select; ``:summary:`` shows the counts by status instead. ``chapters`` lists the chapters,
written and planned.

A directive leaves an empty container; the tables are built when the page is written. By then every chapter is read:
a link is made only where its target is, and no other extension takes "Theorem 4.2" in a statement for a mention.
"""
from __future__ import annotations

import ledger
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

TITLES = {
    "lemma": "Lemmas", "theorem": "Theorems", "proposition": "Propositions",
    "figure": "Figures", "table": "Tables", "prose": "Statements in the text",
}
NOTHING = "–"
COLUMNS = {"Claim": 16, "What it says, and our evidence": 44, "Chapter": 8, "Paper": 11, "Ours": 11, "Status": 10}


class Claims(SphinxDirective):
    """``{claims}``: tables of claims, or their counts."""

    option_spec = {
        "kind": directives.unchanged, "chapter": directives.nonnegative_int, "prefix": directives.unchanged,
        "summary": directives.flag,
    }

    def run(self):
        kinds = self.options.get("kind", "").split()
        if unknown := set(kinds) - set(ledger.KINDS):
            raise self.error(f"kind must be of {ledger.KINDS}, got {sorted(unknown)}")
        self.env.note_dependency(str(ledger.LEDGER))
        groups = [(None, kinds)] if kinds else [(TITLES[k], [k]) for k in ledger.KINDS]
        view = {"show": "summary" if "summary" in self.options else "claims", "kinds": kinds or list(ledger.KINDS),
                "groups": groups, "chapter": self.options.get("chapter"), "prefix": self.options.get("prefix", "")}
        return [nodes.container(classes=["ledger"], ledger=view)]


class Chapters(SphinxDirective):
    """``{chapters}``: the table of chapters."""

    def run(self):
        self.env.note_dependency(str(ledger.LEDGER))
        return [nodes.container(classes=["ledger"], ledger={"show": "chapters"})]


# -- building blocks ----------------------------------------------------------------------------------------------

def paragraph(*parts, classes=()):
    inline = [nodes.Text(p) if isinstance(p, str) else p for p in parts]
    return nodes.paragraph("", "", *inline, classes=list(classes))


def badge(status: str, text: str | None = None):
    return nodes.inline("", text or status, classes=["status", f"status-{status.replace(' ', '-')}"])


def table(columns: dict[str, int], rows: list[tuple[list, list[str]]]):
    """A table; a row is its cells (a string or a list of block nodes) and its ids.

    Each cell carries its column's name as a class: on a phone a row becomes a card, and the class gives the label.
    """
    names = [f"ledger-{c.partition(',')[0].lower().replace(' ', '-')}" for c in columns]
    group = nodes.tgroup("", *[nodes.colspec(colwidth=w) for w in columns.values()], cols=len(columns))
    group += nodes.thead("", nodes.row("", *[nodes.entry("", paragraph(c)) for c in columns]))
    body = nodes.tbody()
    for cells, ids in rows:
        row = nodes.row(ids=ids)
        for name, cell in zip(names, cells, strict=True):
            blocks = [paragraph(cell)] if isinstance(cell, str) else cell
            empty = "".join(b.astext() for b in blocks) == NOTHING
            row += nodes.entry("", *blocks, classes=[name, "ledger-empty"] if empty else [name])
        body += row
    group += body
    return nodes.table("", group, classes=["ledger-table"])


class Links:
    """Links from one page to the chapters that exist."""

    def __init__(self, app, docname: str):
        self.app, self.docname = app, docname
        numbered = app.env.domains.get("plain")          # the domain in which plainbook keeps what is numbered
        self.boxes = numbered.places() if numbered else {}
        self.chapters = {}
        for name in sorted(app.env.found_docs):
            number = name.rpartition("/")[2].partition("_")[0]
            if number.isdecimal():
                self.chapters.setdefault(int(number), name)

    def title(self, number: int, planned: str) -> str:
        """The chapter's own title without its number; the planned one while it is not written."""
        name = self.chapters.get(number)
        return self.app.env.titles[name].astext().removeprefix(f"{number}. ") if name else f"{planned} (planned)"

    def chapter(self, number: int, text: str):
        name = self.chapters.get(number)
        return self._link(text, name, "") if name else nodes.Text(text)

    def claim(self, anchor: str, text: str):
        """A link to the claim's own box in its chapter, where there is one."""
        name, _ = self.boxes.get(anchor, (None, ""))
        return self._link(text, name, f"#{anchor}") if name else nodes.Text(text)

    def _link(self, text: str, name: str, fragment: str):
        uri = self.app.builder.get_relative_uri(self.docname, name) + fragment
        return nodes.reference("", text, internal=True, refuri=uri)


# -- what a page shows --------------------------------------------------------------------------------------------

def number(value, std=None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    return str(value).replace("-", "−") + (f" ± {std}" if std is not None else "")


def label(entry: dict) -> str:
    kind, _, rest = entry["id"].partition("-")
    if kind == "prose":
        return entry["label"]
    if kind == "table":
        return f"table {rest.partition('-')[0]}: {entry['label']}"
    return f"{kind if kind == 'figure' else kind.capitalize()} {rest.upper()}"


def claim_cells(entry: dict, links: Links) -> list:
    section = entry["section"]
    word = "section " if section[0].isdigit() else "appendix " if section[1:2] in ("", ".") else ""
    where = word + section
    name = links.claim(entry["id"].replace(".", "-"), label(entry))
    first = [paragraph(name), paragraph(where, classes=["ledger-note"])]
    if entry.get("also"):
        first.append(paragraph(f"also {', '.join(entry['also'])}", classes=["ledger-note"]))
    says = [paragraph(entry["statement"])]
    if entry.get("measure"):
        says.append(paragraph(f"Number: {entry['measure']}.", classes=["ledger-note"]))
    if entry.get("note"):
        says.append(paragraph(entry["note"], classes=["ledger-note"]))
    if names := evidence(entry):
        parts = [piece for name in names for piece in (" ", nodes.literal("", name))]
        says.append(paragraph("Evidence:", *parts, classes=["ledger-note"]))
    paper = [paragraph(number(entry.get("paper_value"), entry.get("paper_std")))]
    if quoted := entry.get("paper_value_quoted"):
        text = f"{number(quoted['value'], quoted.get('std'))} ({quoted['source']})"
        paper.append(paragraph(text, classes=["ledger-note"]))
    ours = [paragraph(number(entry.get("ours")))]
    if entry.get("tolerance") is not None:
        ours.append(paragraph(f"tolerance {entry['tolerance']:g}", classes=["ledger-note"]))
    return [first, says, [paragraph(links.chapter(entry["chapter"], str(entry["chapter"])))], paper, ours,
            [paragraph(badge(entry["status"]))]]


def evidence(entry: dict) -> list[str]:
    """The tests and result files of an entry, as they are shown."""
    tests = [t.rpartition("/")[2].replace("::", " :: ") for t in ledger.as_list(entry.get("test"))]
    return tests + [f"results/{r}" for r in ledger.as_list(entry.get("result"))]


def claims_view(view: dict, data: dict, links: Links) -> list:
    chosen = [e for e in data["claims"] if e["kind"] in view["kinds"] and e["id"].startswith(view["prefix"])
              and view["chapter"] in (None, e["chapter"])]
    out = []
    for title, kinds in view["groups"]:
        rows = [(claim_cells(e, links), [f"claim-{e['id'].replace('.', '-')}"]) for e in chosen if e["kind"] in kinds]
        if rows:
            out += [nodes.rubric("", title)] if title else []
            out.append(table(COLUMNS, rows))
    return out or [paragraph("No claim is in this selection.")]


def summary_view(view: dict, data: dict, links: Links) -> list:
    claims = [e for e in data["claims"] if e["kind"] in view["kinds"] and view["chapter"] in (None, e["chapter"])]
    rows = []
    for kind in [k for k in view["kinds"] if any(e["kind"] == k for e in claims)] + ["all"]:
        of_kind = [e for e in claims if kind in (e["kind"], "all")]
        counts = [str(sum(e["status"] == s for e in of_kind)) for s in ledger.STATUSES]
        rows.append(([TITLES.get(kind, "All"), *counts, str(len(of_kind))], []))
    out = table({"": 30} | dict.fromkeys(ledger.STATUSES, 14) | {"all": 14}, rows)
    out["classes"].append("ledger-summary")
    for cell, status in zip(list(out.findall(nodes.thead))[0][0][1:], ledger.STATUSES, strict=False):
        cell[:] = [paragraph(badge(status))]
    return [out]


def chapters_view(view: dict, data: dict, links: Links) -> list:
    rows = []
    for c in data["chapters"]:
        title = [paragraph(links.chapter(c["number"], f"{c['number']}. {links.title(c['number'], c['title'])}"))]
        mine = [e for e in data["claims"] if e["chapter"] == c["number"]]
        settled = f"{sum(e['status'] != 'open' for e in mine)} of {len(mine)}" if mine else NOTHING
        rows.append(([title, c["question"], c["paper"], settled], []))
    return [table({"The chapter": 30, "The question": 44, "In the paper": 14, "Claims settled": 12}, rows)]


VIEWS = {"claims": claims_view, "summary": summary_view, "chapters": chapters_view}


def build(app, doctree, docname):
    """Fill the containers that the directives left."""
    places = [n for n in doctree.findall(nodes.container) if "ledger" in n]
    if not places:
        return
    data, links = ledger.load(), Links(app, docname)
    for place in places:
        view = place["ledger"]
        place += VIEWS[view["show"]](view, data, links)
        del place["ledger"]


def setup(app):
    app.add_directive("claims", Claims)
    app.add_directive("chapters", Chapters)
    app.add_css_file("ledger.css")
    app.connect("doctree-resolved", build, priority=900)        # after everything that looks for mentions
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
