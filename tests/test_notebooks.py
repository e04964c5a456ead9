"""Every chapter keeps the rules by which it reads well in the book, in Jupyter and on Colab."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
CHAPTERS = sorted(BOOK.glob("[0-9][0-9]_*.ipynb"))
MAX_CODE_LINES = 40

_spec = importlib.util.spec_from_file_location("set_repository", ROOT / ".ci" / "set_repository.py")
set_repository = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(set_repository)

MYST = re.compile(
    r"^\s*(?:`{3,}|~{3,}|:{3,})\s*\{"  # directives
    r"|\{(?:[a-z]+:)?[a-z]+\}`"  # roles
    r"|\\(?:label|eqref|ref|newcommand|def|DeclareMathOperator)\b",  # labels and macros that only LaTeX keeps
    re.MULTILINE,
)
CODE_FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n.*?^\1", re.MULTILINE | re.DOTALL)
EXERCISE = re.compile(r"^> \*\*Exercise (\d+\.\d+)", re.MULTILINE)
SOLUTION = re.compile(
    r"<summary>Solution to Exercise (\d+\.\d+)</summary>|^# @title Solution to Exercise (\d+\.\d+)", re.MULTILINE
)


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def cells(notebook: dict, kind: str) -> list[str]:
    return [source(cell) for cell in notebook["cells"] if cell["cell_type"] == kind]


def python(code: str) -> str:
    """The code without lines that only IPython understands."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)


def all_sources(notebook: dict) -> str:
    return "\n\n".join(source(cell) for cell in notebook["cells"])


# -- the rules: each takes a notebook and returns what is wrong with it ---------------------------------------------


def setup_cell_is_not_the_common_one(notebook):
    first = next((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), None)
    if first is None or source(first) != set_repository.setup_cell():
        return ["the first code cell is not .ci/setup_cell.py (run: python .ci/set_repository.py --sync)"]
    if first["metadata"].get("cellView") != "form" or "hide-cell" not in first["metadata"].get("tags", []):
        return ["the set-up cell needs cellView: form and the tag hide-cell"]
    return []


def outputs_are_stored(notebook):
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [source(c)[:60] for c in code if c.get("outputs") or c.get("execution_count") is not None]


def markdown_needs_myst(notebook):
    prose = [CODE_FENCE.sub(lambda m: m[0].splitlines()[0], text) for text in cells(notebook, "markdown")]
    return [found[0] for text in prose for found in MYST.finditer(text)]


def quoted_formula_spans_lines(notebook):
    lines = [line for text in cells(notebook, "markdown") for line in text.splitlines()]
    return [line for line in lines if line.lstrip().startswith(">") and line.count("$$") % 2]


def display_formula_shares_its_paragraph(notebook):
    """``$$`` opens a line that follows a blank one, and closes one that a blank one follows."""
    wrong = []
    for text in cells(notebook, "markdown"):
        lines = CODE_FENCE.sub("", text).splitlines()
        inside = False
        for number, line in enumerate(lines):
            bare = line.strip().lstrip("> ").strip()
            if line.count("$$") == 0:
                continue
            before = lines[number - 1].strip("> ") if number else ""
            after = lines[number + 1].strip("> ") if number + 1 < len(lines) else ""
            if line.count("$$") == 2:
                alone = bare.startswith("$$") and bare.endswith("$$") and not before and not after
            elif inside:
                alone, inside = bare.endswith("$$") and not after, False
            else:
                alone, inside = bare.startswith("$$") and not before, True
            if not alone:
                wrong.append(line)
        if inside:
            wrong.append("a $$ is never closed")
    return wrong


def summary_lacks_blank_line(notebook):
    return [m[0] for text in cells(notebook, "markdown") for m in re.finditer(r"</summary>[^\n]*\n(?!\s*\n).*", text)]


def details_are_not_closed(notebook):
    return [text[:60] for text in cells(notebook, "markdown") if text.count("<details") != text.count("</details>")]


def code_cell_is_too_long(notebook):
    lengths = [(len(code.splitlines()), code.splitlines()[0]) for code in cells(notebook, "code") if code]
    return [f"{length} lines: {first}" for length, first in lengths if length > MAX_CODE_LINES]


def solution_in_code_is_visible(notebook):
    wrong = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and source(cell).startswith("# @title"):
            metadata = cell["metadata"]
            if metadata.get("cellView") != "form" or "hide-cell" not in metadata.get("tags", []):
                wrong.append(source(cell).splitlines()[0])
    return wrong


def parts_are_missing(notebook):
    text = "\n".join(cells(notebook, "markdown"))
    wrong = []
    if not re.search(r"^(#+ .*|> \*\*|\*\*)(learning )?objectives", text, re.MULTILINE | re.IGNORECASE):
        wrong.append("no objectives (a box '> **Objectives.**' or a heading)")
    if not re.search(r"^(#+ .*|> \*\*|\*\*)summary", text, re.MULTILINE | re.IGNORECASE):
        wrong.append("no summary (a heading or a box '> **Summary.**')")
    if not re.match(r"# \d+\. \S", text):
        wrong.append("does not begin with '# N. Title'")
    return wrong


def box_breaks_off(notebook):
    """A line without > right below one with it ends the box, or is drawn into it, as the page pleases."""
    lines = [text.splitlines() for text in cells(notebook, "markdown")]
    return [below[:60] for text in lines for above, below in zip(text, text[1:], strict=False)
            if above.startswith(">") and below.strip() and not below.startswith(">")]


def summary_has_not_five_points(notebook):
    boxes = re.findall(r"^> \*\*Summary\.\*\*(?:\n>.*)*", "\n\n".join(cells(notebook, "markdown")), re.MULTILINE)
    found = [len(re.findall(r"^> - ", box, re.MULTILINE)) for box in boxes]
    return [] if found == [5] else [f"{found} points in the summary; one summary of 5 is wanted"]


def exercises_are_off(notebook):
    text = all_sources(notebook)
    exercises = EXERCISE.findall(text)
    solved = {one or two for one, two in SOLUTION.findall(text)}
    wrong = [f"Exercise {number} has no solution" for number in exercises if number not in solved]
    wrong += [f"a solution to Exercise {number}, which is not there" for number in solved - set(exercises)]
    if not 3 <= len(exercises) <= 6:
        wrong.append(f"{len(exercises)} exercises; 3 to 6 are wanted")
    return wrong


def figure_lacks_words(notebook):
    """A shown figure or slider without caption, alternative text or number."""
    wrong = []
    for code in cells(notebook, "code"):
        for node in ast.walk(ast.parse(python(code))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if name in ("plotting.show", "widgets.explore", "widgets.static"):
                missing = {"number", "caption", "alt"} - {keyword.arg for keyword in node.keywords}
                wrong += [f"{ast.unparse(node)[:60]}… lacks {sorted(missing)}"] if missing else []
            elif name in ("plt.show", "fig.show", "figure.show"):
                wrong.append(f"{name}() shows a figure without caption; use plotting.show")
    return wrong


def device_is_named(notebook):
    return [line for code in cells(notebook, "code") for line in code.splitlines() if "cuda" in line.lower()]


def kernel_is_not_python3(notebook):
    name = notebook["metadata"].get("kernelspec", {}).get("name")
    return [] if name == "python3" else [f"kernel {name!r}"]


def warnings_are_silenced(notebook):
    """A bare ``except:``, a warning filter or code that never runs hides what a reader should see."""
    hidden = re.compile(r"except\s*:|filterwarnings|simplefilter\(.ignore|^if (False|0):", re.MULTILINE)
    return [found[0] for code in cells(notebook, "code") for found in hidden.finditer(code)]


RULES = [
    setup_cell_is_not_the_common_one,
    outputs_are_stored,
    markdown_needs_myst,
    quoted_formula_spans_lines,
    display_formula_shares_its_paragraph,
    summary_lacks_blank_line,
    details_are_not_closed,
    code_cell_is_too_long,
    solution_in_code_is_visible,
    parts_are_missing,
    box_breaks_off,
    summary_has_not_five_points,
    exercises_are_off,
    figure_lacks_words,
    device_is_named,
    kernel_is_not_python3,
    warnings_are_silenced,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_keeps_the_rule(path, rule):
    wrong = rule(load(path))
    assert not wrong, f"{path.name}: {rule.__name__.replace('_', ' ')}:\n" + "\n".join(wrong)


# -- the rules can fail ---------------------------------------------------------------------------------------------


def notebook_of(*cells_, kernel="python3"):
    made = []
    for kind, text in cells_:
        made.append({"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True)})
        if kind == "code":
            made[-1] |= {"outputs": [], "execution_count": None}
    return {"cells": made, "metadata": {"kernelspec": {"name": kernel}}}


STORED = notebook_of(("code", "1"))
STORED["cells"][0]["outputs"] = [{"output_type": "stream"}]

BROKEN = [
    (setup_cell_is_not_the_common_one, notebook_of(("code", "import torch"))),
    (outputs_are_stored, STORED),
    (markdown_needs_myst, notebook_of(("markdown", "```{note}\nx\n```"))),
    (markdown_needs_myst, notebook_of(("markdown", "see {eq}`a`"))),
    (markdown_needs_myst, notebook_of(("markdown", "$$\nx \\label{a}\n$$"))),
    (quoted_formula_spans_lines, notebook_of(("markdown", "> $$\n> x\n> $$"))),
    (display_formula_shares_its_paragraph, notebook_of(("markdown", "So\n$$\nx\n$$"))),
    (display_formula_shares_its_paragraph, notebook_of(("markdown", "So $$x$$ it is."))),
    (display_formula_shares_its_paragraph, notebook_of(("markdown", "$$\nx\n$$\nand on"))),
    (summary_lacks_blank_line, notebook_of(("markdown", "<details><summary>S</summary>\ntext\n</details>"))),
    (details_are_not_closed, notebook_of(("markdown", "<details>\n"))),
    (code_cell_is_too_long, notebook_of(("code", "x = 1\n" * (MAX_CODE_LINES + 1)))),
    (solution_in_code_is_visible, notebook_of(("code", "# @title Solution to Exercise 1.1 (code)"))),
    (parts_are_missing, notebook_of(("markdown", "# 1. Title\n\nText"))),
    (box_breaks_off, notebook_of(("markdown", "> **Summary.**\n>\n> - one\n- two"))),
    (summary_has_not_five_points, notebook_of(("markdown", "> **Summary.**\n>\n" + "> - one\n" * 6))),
    (summary_has_not_five_points, notebook_of(("markdown", "text"))),
    (exercises_are_off, notebook_of(("markdown", "> **Exercise 1.1.** Do."))),
    (figure_lacks_words, notebook_of(("code", "plotting.show(fig, number='1.A', caption='c')"))),
    (figure_lacks_words, notebook_of(("code", "plt.show()"))),
    (device_is_named, notebook_of(("code", "x.to('cuda')"))),
    (kernel_is_not_python3, notebook_of(kernel="python2")),
    (warnings_are_silenced, notebook_of(("code", "try:\n    f()\nexcept:\n    pass"))),
]


@pytest.mark.parametrize("rule, notebook", BROKEN, ids=[rule.__name__ for rule, _ in BROKEN])
def test_rule_finds_a_planted_fault(rule, notebook):
    assert rule(notebook)


GOOD = (
    """# 1. Title

> **Objectives.** You can do it.

> **Lemma 3.1 (Name).** Text with $x$.
>
> $$ x = y \\tag{9} $$
>
> for all.

$$
x = y \\tag{1}
$$

```python
x = "{eq}`a`"
```

"""
    + "".join(
        f"> **Exercise 1.{i}.** Do.\n\n"
        f"<details>\n<summary>Solution to Exercise 1.{i}</summary>\n\nDone.\n\n</details>\n\n"
        for i in (1, 2, 3)
    )
    + "## Summary\n\n> **Summary.**\n>\n"
    + "> - One point.\n" * 5
)


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: rule.__name__)
def test_rule_accepts_a_good_chapter(rule):
    code = "plotting.show(fig, number='1.A', caption='c', alt='a')"
    assert not rule(notebook_of(("markdown", GOOD), ("code", code)))


def test_every_rule_has_a_planted_fault():
    assert {rule for rule, _ in BROKEN} == set(RULES)


# -- the book as a whole --------------------------------------------------------------------------------------------


def toc_files() -> list[str]:
    def walk(node):
        if isinstance(node, dict):
            yield from (node[key] for key in ("file", "root") if key in node)
            node = list(node.values())
        for child in node if isinstance(node, list) else ():
            yield from walk(child)

    return list(walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))


def test_table_of_contents_lists_each_file_once_and_no_other():
    listed = toc_files()
    assert len(listed) == len(set(listed))
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (*BOOK.glob("*.ipynb"), *BOOK.glob("*.md"))}
    assert set(listed) == pages


def test_chapters_stand_in_their_order():
    listed = [name for name in toc_files() if re.match(r"book/\d\d_", name)]
    assert listed == sorted(listed)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_number_is_that_of_its_file(path):
    title = cells(load(path), "markdown")[0].splitlines()[0]
    assert title.startswith(f"# {int(path.stem[:2])}. ")


def test_only_the_device_helper_names_the_accelerator():
    named = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gnnssm_lite").rglob("*.py")
        if path.name != "device.py" and "cuda" in path.read_text(encoding="utf-8").lower()
    ]
    assert not named
