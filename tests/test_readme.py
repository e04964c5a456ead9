"""The README's two commands are the ones that run; what it names exists."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

_spec = importlib.util.spec_from_file_location("readme_commands", ROOT / ".ci" / "readme_commands.py")
readme_commands = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readme_commands)


def test_readme_holds_exactly_two_commands():
    assert re.findall(r"^```(\w+)$", README, re.MULTILINE) == ["sh", "sh", "python"]
    assert readme_commands.commands(README) == [readme_commands.command("book"), readme_commands.command("test")]


@pytest.mark.parametrize("name", ["book", "test"])
def test_each_command_sets_itself_up(name):
    command = readme_commands.command(name)
    assert "\n" not in command
    steps = [shlex.split(step) for step in command.split("&&")]
    assert steps[0] == ["python3", "-m", "venv", ".venv"]
    assert steps[1][1:] == ["-m", "pip", "install", "-r", "requirements.txt"]
    assert len(steps) == 3 and all(step[0].startswith(".venv/bin/") for step in steps[1:])


def test_book_command_fails_on_warnings():
    assert {"-W", "-n", "--keep-going", "--all"} <= set(readme_commands.command("book").split())


def test_test_command_runs_every_notebook_with_a_time_limit():
    words = readme_commands.command("test").split()
    assert {"--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=120", "book", "tests"} <= set(words)


@pytest.mark.parametrize("without", [0, 1])
def test_missing_command_is_reported(tmp_path, without):
    blocks = ["```sh\njupyter-book build .\n```", "```sh\npytest\n```"]
    (tmp_path / "README.md").write_text(blocks[without], encoding="utf-8")
    with pytest.raises(SystemExit, match="exactly one"):
        readme_commands.command(("test", "book")[without], tmp_path)


def test_continuous_integration_takes_the_commands_from_the_readme():
    assert "readme_commands.py test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_commands.py book" in (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflow_is_valid_yaml_with_jobs(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["jobs"] and all("runs-on" in job for job in workflow["jobs"].values())


def test_readme_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets and [target for target in targets if not (ROOT / target).exists()] == []


def test_readme_lists_every_chapter():
    listed = re.findall(r"\(book/(\d\d_\w+)\.ipynb\)", README)
    assert listed == sorted(path.stem for path in (ROOT / "book").glob("[0-9][0-9]_*.ipynb"))


def test_torch_is_pinned_for_the_book_and_free_for_the_package():
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(r"^torch==", requirements, re.MULTILINE) and requirements.rstrip().endswith("-e .")
    assert '"torch>=' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_example_runs_and_the_memory_keeps_the_gradient():
    """The README's Python block, as printed."""
    example, found = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1), {}
    torch.manual_seed(0)
    exec(compile(example, "README.md", "exec"), found)  # noqa: S102 - our own text
    assert found["gamma"].shape == (34 * 16,) and found["J_vu"].shape == (16, 16)
    assert len(found["energy"]) == 9 and len(found["back"]) == 9
    assert float(found["back"][0]) < float(found["kept"][0])
