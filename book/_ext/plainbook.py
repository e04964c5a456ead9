r"""Sphinx extension that turns plain Markdown into a cross-linked book.

The notebooks hold only Markdown that Jupyter and Colab render too. In the built book

* ``> **Theorem 3.2 (Name).** text`` becomes a titled box with the anchor ``theorem-3-2``,
* ``$$ ... \tag{9} $$`` becomes an equation with the anchor ``eq-9``,
* ``# 3. Title`` and ``## 3.1 Title`` get the anchors ``chapter-3`` and ``section-3-1``,
* ``<figure id="figure-3-a">`` in an output or the text is the target of "Figure 3.A", and so with ``<table …>``,
* mentions such as "Theorem 3.2", "Eqs. (1)–(3)", "Figures 3.A and 3.B", "Chapter 3" become links.

A number with digits only is the paper's, one with a letter (3.A) the book's own. A mention without a target, a number
that is used twice, and a number that carries another chapter's digit are warnings.
Nodes with the class ``no-mentions``, and everything below them, are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains import Domain
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

logger = logging.getLogger(__name__)

PLURALS = {
    "Theorem": "Theorems",
    "Lemma": "Lemmas",
    "Proposition": "Propositions",
    "Corollary": "Corollaries",
    "Definition": "Definitions",
    "Assumption": "Assumptions",
    "Algorithm": "Algorithms",
    "Example": "Examples",
    "Remark": "Remarks",
    "Exercise": "Exercises",
}
UNNUMBERED = ("Note", "Tip", "Warning", "Proof", "Check", "Finding", "Objectives", "Summary")
SINGULAR = {plural: kind for kind, plural in PLURALS.items()} | {
    "Chapters": "Chapter",
    "Sections": "Section",
    "Figures": "Figure",
    "Tables": "Table",
    "Eq.": "Eq",
    "Eqs.": "Eq",
    "Equation": "Eq",
    "Equations": "Eq",
}

NUMBER = r"(?:\d+|[A-Z])\.(?:\d+|[A-Z]{1,2})"
TAG_NUMBER = r"\d+(?:\.(?:\d+|[A-Z]{1,2}))?"
NUMBERED_KINDS = "|".join(PLURALS)
ALL_KINDS = "|".join((*PLURALS, *UNNUMBERED))
LABEL = re.compile(
    rf"(?:(?P<kind>{NUMBERED_KINDS})\s(?P<number>{NUMBER})|(?P<plain>{ALL_KINDS}))(?P<name>\s\(.*\))?[.:]?", re.DOTALL
)
LABEL_LIKE = re.compile(rf"(?:{NUMBERED_KINDS})\s\(?\d")
HEADING = re.compile(r"(\d+)\.?(?:(?<=\.)(\d+))?[.:]?\s")
TAG = re.compile(rf"\\tag\*?\{{\(?({TAG_NUMBER})\)?\}}")
ANCHOR = re.compile(r"<(?:figure|table|div)\b[^>]*?\bid=[\"']((?:figure|table)-\d+-[a-z]{1,2})[\"']")

SPACE = r"[\s\u00a0]"
SEPARATOR = rf"(?:{SPACE}?[–-]{SPACE}?|,{SPACE}(?:and{SPACE})?|{SPACE}(?:and|or|to){SPACE})"
KIND_WORDS = "|".join((*PLURALS.values(), *PLURALS, "Chapters?", "Sections?", "Figures?", "Tables?"))
ITEM = r"\d+(?:\.(?:\d+|[A-Z]{1,2}))?|[A-Z]\.\d+"
END = r"(?![\w]|\.\d)"
MENTION = re.compile(
    rf"\b(?:(?P<kind>{KIND_WORDS}){SPACE}(?P<items>(?:{ITEM}){END}(?:{SEPARATOR}(?:{ITEM}){END})*)"
    rf"|(?P<eq>Eqs?\.|Equations?){SPACE}(?P<tags>\((?:{TAG_NUMBER})\)(?:{SEPARATOR}\((?:{TAG_NUMBER})\))*))"
)
ITEM_IN_LIST = re.compile(rf"\(?(?:{ITEM})\)?")

# Text in these is never a mention: code, formulas, links, signatures, reference lists.
SKIPPED = (
    nodes.literal,
    nodes.FixedTextElement,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.reference,
    nodes.citation,
    nodes.comment,
    addnodes.pending_xref,
    addnodes.desc_signature,
)


def anchor(kind: str, number: str) -> str:
    """The HTML id of a numbered thing: ``anchor("Figure", "3.A") == "figure-3-a"``."""
    return f"{kind}-{number}".lower().replace(".", "-")


class PlainDomain(Domain):
    """Remembers what is numbered where; Sphinx purges, pickles and merges it with the rest of its environment."""

    name = "plain"
    label = "Numbered parts of the book"
    initial_data = {"targets": []}  # (anchor, name, document, line)
    data_version = 1
    dangling_warnings = {"mention": "no target for the mention of %(target)r"}

    def clear_doc(self, docname: str) -> None:
        self.data["targets"] = [t for t in self.data["targets"] if t[2] != docname]

    def merge_domaindata(self, docnames: list[str], otherdata: dict) -> None:
        self.data["targets"] += [t for t in otherdata["targets"] if t[2] in docnames]

    def note(self, target: str, name: str, line: int | None) -> None:
        self.data["targets"].append((target, name, self.env.docname, line))

    def places(self) -> dict[str, tuple[str, str]]:
        """anchor -> (document, name); the first one wins when a number is used twice."""
        return {target: (docname, name) for target, name, docname, _ in reversed(self.data["targets"])}

    def check_consistency(self) -> None:
        seen: dict[str, str] = {}
        for target, name, docname, line in self.data["targets"]:
            if target in seen:
                logger.warning(
                    "%s is used twice, first in %s", name, seen[target], location=(docname, line), type="plainbook"
                )
            seen.setdefault(target, docname)

    def resolve_xref(self, env, fromdocname, builder, typ, target, node, contnode):
        place = self.places().get(target)
        return place and make_refnode(builder, fromdocname, place[0], target, contnode, place[1])

    def get_objects(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        for target, name, docname, _ in self.data["targets"]:
            yield target, name, "mention", docname, target, 1

    def get_full_qualified_name(self, node: nodes.Element) -> str | None:
        return None


class Boxes(SphinxTransform):
    """Finds everything numbered in a document, and makes boxes of labelled quotes."""

    default_priority = 400

    def apply(self, **kwargs) -> None:
        self.domain: PlainDomain = self.env.get_domain("plain")
        self.chapter: str | None = None
        self.headings()
        self.boxes()
        self.equations()
        self.raw_anchors()

    def register(self, node: nodes.Element, kind: str, number: str, add_id: bool = True) -> str:
        """Records the number; the element itself gets the anchor unless it already carries it."""
        target, name = anchor(kind, number), f"{kind} ({number})" if kind == "Eq" else f"{kind} {number}"
        chapter, _, own = number.partition(".")
        carries_chapter = kind in ("Section", "Exercise") or own.isalpha()
        if self.chapter and carries_chapter and chapter != self.chapter:
            logger.warning("%s stands in chapter %s", name, self.chapter, location=node, type="plainbook")
        if add_id:
            node["ids"].insert(0, target)
        self.domain.note(target, name, line_of(node))
        return target

    def headings(self) -> None:
        for section in self.document.findall(nodes.section):
            found = HEADING.match(section[0].astext() + " ")
            if not found:
                continue
            chapter, part = found.groups()
            top = section.parent is self.document
            if top and part is None:
                self.chapter = chapter
                self.register(section, "Chapter", chapter)
            elif not top and part is not None:
                self.register(section, "Section", f"{chapter}.{part}")

    def boxes(self) -> None:
        for quote in list(self.document.findall(nodes.block_quote)):
            first = quote[0] if len(quote) else None
            if not isinstance(first, nodes.paragraph):
                continue
            drop_leading_space(first)
            strong = first[0] if len(first) else None
            if not isinstance(strong, nodes.strong):
                continue
            label = LABEL.fullmatch(strong.astext())
            if label:
                self.make_box(quote, first, strong, label)
            elif LABEL_LIKE.match(strong.astext()):
                logger.warning("box label %r is not understood", strong.astext(), location=quote, type="plainbook")

    def make_box(self, quote, first, strong, label: re.Match) -> None:
        kind = label["kind"] or label["plain"]
        title = nodes.title("", "", *strong.children)
        if isinstance(title[-1], nodes.Text):
            title[-1] = nodes.Text(title[-1].rstrip(" .:"))
        first.remove(strong)
        drop_leading_space(first)
        body = [child for child in quote.children if child is not first or len(first)]
        box = nodes.admonition("", title, *body, classes=["plainbox", f"box-{kind.lower()}"])
        box.source, box.line = quote.source, quote.line
        quote.replace_self(box)
        if label["number"]:
            target = self.register(box, kind, label["number"])
            title["own_label"] = f"{kind} {label['number']}"
            title += nodes.raw(
                "", f'<a class="headerlink" href="#{target}" title="Link to this {kind.lower()}">#</a>', format="html"
            )

    def equations(self) -> None:
        for block in self.document.findall(nodes.math_block):
            numbers = TAG.findall(block.astext())
            for number in reversed(numbers):
                self.register(block, "Eq", number)
            if numbers:
                # Sphinx would wrap the formula in an environment in which \tag is an error.
                block["nowrap"] = True
                block[:] = [nodes.Text(rf"\[{block.astext().strip()}\]")]

    def raw_anchors(self) -> None:
        for raw in self.document.findall(nodes.raw):
            for found in ANCHOR.findall(raw.astext()):
                kind, chapter, letter = found.split("-")
                self.register(raw, kind.capitalize(), f"{chapter}.{letter.upper()}", add_id=False)


class Mentions(SphinxTransform):
    """Turns mentions in running text into references that Sphinx resolves when it writes the page."""

    default_priority = 410

    def apply(self, **kwargs) -> None:
        for parent in list(self.document.findall(nodes.TextElement)):
            if isinstance(parent, nodes.Element) and not skipped(parent):
                join_texts(parent)
                for text in [child for child in parent.children if isinstance(child, nodes.Text)]:
                    pieces = list(self.pieces(text.astext(), parent))
                    if any(isinstance(piece, addnodes.pending_xref) for piece in pieces):
                        parent.replace(text, pieces)

    def pieces(self, text: str, parent: nodes.Element) -> Iterator[nodes.Node]:
        """The text cut into plain pieces and references."""
        position = 0
        own_label = parent.get("own_label", "")
        if own_label and text.startswith(own_label):
            position = len(own_label)
            yield nodes.Text(own_label)
        for mention in MENTION.finditer(text, position):
            word = mention["kind"] or mention["eq"]
            kind = SINGULAR.get(word, word)
            start = mention.start()  # the first link takes the word in: "Figures 3.A"
            for item in ITEM_IN_LIST.finditer(text, mention.start() + len(word), mention.end()):
                if position < start:
                    yield nodes.Text(text[position:start])
                yield self.reference(kind, item[0].strip("()"), text[start : item.end()], parent)
                position = item.end()
                start = next_item(text, position, mention.end())
        if position < len(text):
            yield nodes.Text(text[position:])

    def reference(self, kind: str, number: str, text: str, parent: nodes.Element) -> nodes.Node:
        node = addnodes.pending_xref(
            "",
            nodes.inline(text, text, classes=["mention"]),
            refdomain="plain",
            reftype="mention",
            reftarget=anchor(kind, number),
            refdoc=self.env.docname,
            refwarn=True,
            refexplicit=True,
        )
        node.source, node.line = parent.source, line_of(parent)
        return node


def line_of(node: nodes.Node | None) -> int | None:
    """The line of the nearest node that knows its own."""
    while node is not None and node.line is None:
        node = node.parent
    return node and node.line


def next_item(text: str, position: int, end: int) -> int:
    """Where the next number of a list such as "3.A and 3.B" begins."""
    following = ITEM_IN_LIST.search(text, position, end)
    return following.start() if following else end


def skipped(node: nodes.Node | None) -> bool:
    while isinstance(node, nodes.Element):
        if isinstance(node, SKIPPED) or "no-mentions" in node.get("classes", ()):
            return True
        node = node.parent
    return False


def drop_leading_space(paragraph: nodes.paragraph) -> None:
    """Removes the blank text that the parser leaves before bold text."""
    while len(paragraph) and isinstance(paragraph[0], nodes.Text):
        rest = paragraph[0].astext().lstrip()
        if rest:
            paragraph[0] = nodes.Text(rest)
            return
        paragraph.pop(0)


def join_texts(parent: nodes.Element) -> None:
    """Joins neighbouring texts: a line break in the source cuts "Theorem 3.2" into three."""
    joined: list[nodes.Node] = []
    for child in parent.children:
        if joined and isinstance(child, nodes.Text) and isinstance(joined[-1], nodes.Text):
            joined[-1] = nodes.Text(joined[-1] + child)
        else:
            joined.append(child)
    if len(joined) < len(parent.children):
        parent[:] = joined


def rewrite_when_targets_move(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """An unchanged page must be written again when a number that it mentions has moved to another page."""
    places = env.get_domain("plain").places()
    before = getattr(env, "plain_places_before", places)
    env.plain_places_before = places
    return sorted(env.found_docs) if places != before else []


def setup(app: Sphinx) -> dict:
    app.add_domain(PlainDomain)
    app.add_transform(Boxes)
    app.add_transform(Mentions)
    app.connect("env-updated", rewrite_when_targets_move)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
