"""What holds the book together: layout, link check, repository address, and the extension for plain Markdown."""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gnnssm_lite.device import default_device

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {
    "book", "gnnssm_lite", "tests", "README.md", "_config.yml", "_toc.yml", "requirements.txt", "pyproject.toml",
    "LICENSE", "CITATION.cff",
}  # fmt: skip


def load_script(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_links = load_script(".ci/check_links.py")
set_repository = load_script(".ci/set_repository.py")


def test_top_level_holds_the_agreed_names_only():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    names = {name.split("/")[0] for name in listed if name}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL
    assert {name for name in names if name.startswith(".")} <= {".ci", ".github", ".gitignore"}


# -- pages and their links ------------------------------------------------------------------------------------------


def site(folder: Path, **pages: str) -> Path:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return folder


def test_links_that_resolve_are_accepted(tmp_path):
    site(
        tmp_path,
        a='<a href="b.html#x%20y">b</a><a href="#top">t</a><p id="top">',
        b='<p id="x y"><a href="https://x.org/#q">',
    )
    assert check_links.broken_links(tmp_path) == []
    assert check_links.main([str(tmp_path)]) == 0


@pytest.mark.parametrize(
    "body, problem",
    [
        ('<a href="b.html#gone">', "no such anchor"),
        ('<a href="#gone">', "no such anchor"),
        ('<a href="c.html">', "no such file"),
        ('<img src="missing.png">', "no such file"),
        ('<meta http-equiv="Refresh" content="0; url=c.html">', "no such file"),
    ],
)
def test_planted_broken_link_is_found(tmp_path, body, problem, capsys):
    site(tmp_path, a=body, b='<p id="here">')
    (found,) = check_links.broken_links(tmp_path)
    assert found.startswith("a.html: ") and problem in found
    assert check_links.main([str(tmp_path)]) == 1
    assert problem in capsys.readouterr().err


def test_site_without_pages_is_an_error(tmp_path):
    assert check_links.main([str(tmp_path)]) == 1


# -- the repository's address ---------------------------------------------------------------------------------------

OLD = "https://github.com/OWNER/gnnssm_lite"


@pytest.fixture
def project(tmp_path):
    """A small copy of what names the address; one chapter lacks the set-up cell, one has an old one."""
    for name in (".ci/setup_cell.py", "README.md", "CITATION.cff", "pyproject.toml"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        text = (ROOT / name).read_text(encoding="utf-8")
        target.write_text(text.replace(set_repository.current_address(), OLD), encoding="utf-8")
    (tmp_path / "book").mkdir()
    title = {"cell_type": "markdown", "metadata": {}, "source": ["# 1. Title"]}
    old = {
        "cell_type": "code",
        "metadata": {},
        "source": ["# @title Set-up\n", "pass"],
        "outputs": [],
        "execution_count": None,
    }
    work = {"cell_type": "code", "metadata": {}, "source": ["1 + 1"], "outputs": [], "execution_count": None}
    for name, cells in {"01_one": [title, work], "02_two": [title, old, work]}.items():
        notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / "book" / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "given", ["https://github.com/me/book", "git+https://github.com/me/book.git", "https://github.com/me/book/"]
)
def test_new_address_stands_everywhere(project, given):
    assert set_repository.main([given, "--root", str(project)]) == 0
    assert set_repository.current_address(project) == "https://github.com/me/book"
    for name in ("README.md", "CITATION.cff", "pyproject.toml", ".ci/setup_cell.py"):
        text = (project / name).read_text(encoding="utf-8")
        assert OLD not in text and "https://github.com/me/book" in text, name
    for path in set_repository.chapters(project):
        cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
        assert "".join(cells[0]["source"]) == set_repository.setup_cell(project)
        assert cells[1]["source"] == ["1 + 1"] and len(cells) == 2


def test_setting_the_address_again_changes_nothing(project):
    set_repository.main([OLD, "--root", str(project)])
    assert set_repository.set_address(OLD, project) == [] and set_repository.sync(project) == []


def test_address_of_a_local_clone_is_accepted():
    assert set_repository.cleaned("git+file:///srv/clone") == "file:///srv/clone"


@pytest.mark.parametrize("given", ["", "github.com/me/book", 'https://x.org/"; import os', "a b"])
def test_what_is_no_address_is_refused(project, given):
    with pytest.raises(ValueError, match="address must be a URL"):
        set_repository.set_address(given, project)


def test_setup_cell_does_nothing_where_the_package_is_installed(capsys):
    exec(set_repository.setup_cell(), {})
    assert capsys.readouterr().out == ""


def test_setup_cell_reports_a_failed_installation(tmp_path):
    code = set_repository.setup_cell().replace(set_repository.current_address(), f"file://{tmp_path}/nowhere")
    code = code.replace('find_spec("gnnssm_lite")', 'find_spec("no_such_package")')
    with pytest.raises(RuntimeError, match="could not be installed from file://"):
        exec(code, {})


# -- plain Markdown becomes a book ----------------------------------------------------------------------------------

CONF = """
import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_parser", "plainbook"]
myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline = True
html_theme = "basic"
"""

FIRST = r"""# 1. First

## 1.1 A section

> **Lemma 3.1 (Name, $x$).** A box about Eq. (9).
>
> $$ x = y \tag{9} $$

$$
a = b \tag{1}
$$

$$
\begin{aligned} a &= b \\ &= c \end{aligned} \tag{1.A}
$$

> **Note.** An unnumbered box.

> A plain quotation.

<figure id="figure-1-a"><img alt="x" src="data:,"></figure>
"""


def build(folder: Path, parallel: int = 0, **pages: str) -> tuple[dict[str, str], list[str]]:
    """Build a tiny book; return the HTML of its pages and the warnings."""
    pytest.importorskip("myst_parser")
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    folder.mkdir(exist_ok=True)
    (folder / "conf.py").write_text(CONF.format(ext=str(ROOT / "book" / "_ext")), encoding="utf-8")
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    names = sorted(path.stem for path in folder.glob("*.md") if path.stem != "index")
    (folder / "index.md").write_text("# Index\n\n```{toctree}\n" + "\n".join(names) + "\n```\n", encoding="utf-8")
    warnings = io.StringIO()
    with docutils_namespace():
        app = Sphinx(
            folder, folder, folder / "out", folder / "trees", "html", status=None, warning=warnings, parallel=parallel
        )
        app.build()
    html = {name: (folder / "out" / f"{name}.html").read_text(encoding="utf-8") for name in names}
    return html, [line for line in warnings.getvalue().splitlines() if "WARNING" in line]


def test_everything_numbered_gets_its_anchor(tmp_path):
    html, warnings = build(tmp_path, first=FIRST)
    assert warnings == []
    for anchor in ("chapter-1", "section-1-1", "lemma-3-1", "eq-9", "eq-1", "eq-1-a", "figure-1-a"):
        assert f'id="{anchor}"' in html["first"], anchor
    assert html["first"].count("plainbox box-") == 2
    assert "box-lemma" in html["first"] and "box-note" in html["first"]
    assert r"\[x = y \tag{9}\]" in html["first"]
    assert "<blockquote>" in html["first"]
    assert check_links.broken_links(tmp_path / "out") == []


@pytest.mark.parametrize(
    "text, links",
    [
        ("See Lemma 3.1.", {"lemma-3-1": "Lemma 3.1"}),
        ("See Lemma\n3.1, too.", {"lemma-3-1": "Lemma\n3.1"}),
        ("From Eq. (9) it follows", {"eq-9": "Eq. (9)"}),
        ("From Eqs. (1)–(9) and on", {"eq-1": "Eqs. (1)", "eq-9": "(9)"}),
        ("Equations (1), (9) and (1.A)", {"eq-1": "Equations (1)", "eq-9": "(9)", "eq-1-a": "(1.A)"}),
        ("**Figure 1.A** shows", {"figure-1-a": "Figure 1.A"}),
        ("In Chapter 1.", {"chapter-1": "Chapter 1"}),
        ("Chapters 1 and 2 say", {"chapter-1": "Chapters 1", "chapter-2": "2"}),
        ("In Section 1.1, we", {"section-1-1": "Section 1.1"}),
    ],
)
def test_mention_becomes_a_link_to_the_other_page(tmp_path, text, links):
    html, warnings = build(tmp_path, first=FIRST, second=f"# 2. Second\n\n{text}\n")
    assert warnings == []
    for anchor, words in links.items():
        assert f'href="first.html#{anchor}"' in html["second"] or f'href="#{anchor}"' in html["second"]
        assert f'class="mention">{words}</span>' in html["second"]
    assert html["second"].count('class="mention"') == len(links)


@pytest.mark.parametrize(
    "text", ["`Theorem 9.9`", "$Theorem 9.9$", "[Theorem 9.9](https://x.org)", "section 9 of", "```\nTheorem 9.9\n```"]
)
def test_code_formulas_and_links_are_left_alone(tmp_path, text):
    html, warnings = build(tmp_path, first=f"# 1. First\n\n{text}\n")
    assert warnings == [] and "mention" not in html["first"]


@pytest.mark.parametrize(
    "text", ["Theorem 9.9", "Eq. (7)", "Figure 2", "Figures 1.A and 1.B", "Chapter 7", "Exercise 1.1", "Lemma A.8"]
)
def test_mention_without_target_is_a_warning(tmp_path, text):
    _, warnings = build(tmp_path, first=FIRST, second=f"# 2. Second\n\nSee {text}.\n")
    assert len(warnings) == 1 and "no target for the mention" in warnings[0] and "second.md:3" in warnings[0]


@pytest.mark.parametrize(
    "again",
    ["> **Lemma 3.1 (Again).** x", "$$\nz \\tag{9}\n$$", '<figure id="figure-1-a"></figure>', "# 1. First again"],
)
@pytest.mark.parametrize("parallel", [0, 2])
def test_number_used_twice_is_a_warning(tmp_path, again, parallel):
    others = {f"page{i}": "# Page\n" for i in range(6 * (parallel > 0))}  # Sphinx reads in parallel from six pages on
    again = again if again.startswith("# ") else f"# Second\n\n{again}"
    _, warnings = build(tmp_path, parallel, first=FIRST, second=again + "\n", **others)
    assert len([line for line in warnings if "is used twice" in line]) == 1


def test_number_of_another_chapter_is_a_warning(tmp_path):
    _, warnings = build(tmp_path, first="# 1. First\n\n> **Proposition 2.A.** x\n\n## 2.1 Section\n")
    assert len(warnings) == 2 and all("stands in chapter 1" in line for line in warnings)


def test_label_that_is_not_understood_is_a_warning(tmp_path):
    _, warnings = build(tmp_path, first="# 1. First\n\n> **Theorem 3.2b (Name).** x\n")
    assert len(warnings) == 1 and "is not understood" in warnings[0]


def test_unchanged_page_follows_a_number_that_moves(tmp_path):
    box = "# Page\n\n> **Lemma 3.1.** x\n"
    reader = "# Reader\n\nSee Lemma 3.1.\n"
    html, _ = build(tmp_path, one=box, reader=reader, two="# Page\n")
    assert 'href="one.html#lemma-3-1"' in html["reader"]
    html, warnings = build(tmp_path, one="# Page\n", reader=reader, two=box)
    assert warnings == [] and 'href="two.html#lemma-3-1"' in html["reader"]


def test_page_that_goes_away_takes_its_numbers_along(tmp_path):
    build(tmp_path, one="# Page\n\n> **Lemma 3.1.** x\n", reader="# Reader\n\nSee Lemma 3.1.\n")
    (tmp_path / "one.md").unlink()
    shutil.rmtree(tmp_path / "out")
    _, warnings = build(tmp_path)
    assert len([line for line in warnings if "no target for the mention" in line]) == 1


# -- where computations run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer", ["mps", "xpu", "meta", "gpu"])
def test_only_devices_that_the_package_knows_are_preferred(prefer):
    with pytest.raises(ValueError, match=f"prefer must name .* it was '{prefer}'"):
        default_device(prefer)
    assert default_device("cpu") == torch.device("cpu")


def test_an_accelerator_with_too_large_a_number_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(default_device(prefer)) for prefer in ("cuda", "cuda:1")] == ["cuda", "cuda:1"]
    with pytest.raises(ValueError, match="prefer must be one of the 2 CUDA devices .* it was 'cuda:2'"):
        default_device("cuda:2")


# -- the book's surroundings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ, address",
    [
        ({}, ""),
        ({"GITHUB_REPOSITORY": "me/book"}, "https://github.com/me/book"),
        (
            {"GITHUB_REPOSITORY": "me/book", "GITHUB_SERVER_URL": "https://git.example.org"},
            "https://git.example.org/me/book",
        ),
        ({"BOOK_REPOSITORY_URL": "https://x.org/a/b.git", "GITHUB_REPOSITORY": "me/book"}, "https://x.org/a/b"),
    ],
)
def test_repository_address_comes_from_the_environment_only(environ, address):
    pytest.importorskip("sphinx")
    assert load_script("book/_ext/bookext.py").repository_address(environ) == address


def test_configuration_names_no_repository():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert "repository" not in config and "launch_buttons" not in config


def test_recorded_results_travel_in_the_wheel(tmp_path):
    pytest.importorskip("hatchling")
    build_wheel = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build_wheel, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 0, result.stderr
    import zipfile

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    recorded = [path.name for path in (ROOT / "book" / "results").iterdir() if path.is_file()]
    assert {f"gnnssm_lite/_results/{name}" for name in recorded} <= set(names)
