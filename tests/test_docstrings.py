"""A reader of the API page finds in each docstring what its function refuses."""
import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "gnnssm_lite"
# The argument checks themselves name their error in one line each; the command line prints what went wrong.
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if not path.name.startswith("_") and path.name != "checks.py"]

CHECKS = {node.name for node in ast.parse((PACKAGE / "checks.py").read_text(encoding="utf-8")).body
          if isinstance(node, ast.FunctionDef)}


def public(tree: ast.Module):
    """Public functions and classes of a module, with the code that runs when they are called."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            made = [part for part in getattr(node, "body", ()) if getattr(part, "name", "") == "__init__"]
            yield node, made if isinstance(node, ast.ClassDef) else [node]


def refuses(code: ast.AST) -> bool:
    """Whether it raises an error of its own or calls a check of the package."""
    return any(isinstance(part, ast.Raise) and isinstance(part.exc, ast.Call) and not _internal(part.exc)
               or isinstance(part, ast.Call) and _is_check(ast.unparse(part.func).split(".")[-1])
               for part in ast.walk(code))


def _is_check(name: str) -> bool:
    return name in CHECKS or name.startswith("_check")


def _internal(error: ast.Call) -> bool:
    return ast.unparse(error.func) in ("NotImplementedError", "AssertionError")


def silent(source: str) -> list[str]:
    return [node.name for node, codes in public(ast.parse(source))
            if any(map(refuses, codes)) and "Raises" not in (ast.get_docstring(node) or "")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_docstring_says_what_is_refused(path):
    assert not silent(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("source, found", [
    ('def f(n):\n    """Doc."""\n    raise ValueError("n")', ["f"]),
    ('def f(n):\n    """Doc."""\n    return check_int("n", n, 1)', ["f"]),
    ('class F:\n    """Doc."""\n    def __init__(self, n):\n        self.n = checks.check_int("n", n, 1)', ["F"]),
    ('def f(n):\n    """Doc.\n\n    Raises:\n        ValueError: n.\n    """\n    raise ValueError("n")', []),
    ('def _f(n):\n    """Doc."""\n    raise ValueError("n")', []),
    ('def f(n):\n    """Doc."""\n    try:\n        return g(n)\n    except OSError:\n        raise', []),
])
def test_the_rule_tells_silence_from_words(source, found):
    assert silent(source) == found
