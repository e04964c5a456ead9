"""Run a chapter as Colab would: an empty folder, an environment with torch, numpy, matplotlib, pandas and seaborn only.

    python .ci/simulate_colab.py 03_jacobian_spectrum

makes a fresh virtual environment, clones this checkout's HEAD, points the set-up cell at the clone, runs the chapter top to
bottom and prints how long the set-up cell took.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PREINSTALLED = ["torch==2.13.0", "numpy", "matplotlib", "pandas", "seaborn"]
RUNNER = ["ipykernel", "nbclient"]  # stands for Colab itself

RUN = """
import sys, time, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
client = NotebookClient(notebook, timeout=600, kernel_name="python3")
started = {}
def before(cell, cell_index, **rest): started[cell_index] = time.time()
def after(cell, cell_index, **rest):
    if "REPOSITORY =" in cell.source: print(f"set-up cell: {time.time() - started[cell_index]:.1f} s", flush=True)
client.on_cell_execute, client.on_cell_executed = before, after
start = time.time()
client.execute()
print(f"whole chapter: {time.time() - start:.1f} s, {sum(c.cell_type == 'code' for c in notebook.cells)} cells", flush=True)
"""


def main(chapter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clone, empty = work / "clone", work / "content"
        empty.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        notebook = json.loads((clone / "book" / f"{chapter}.ipynb").read_text())
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            cell["source"] = re.sub(r'^REPOSITORY = ".*"$', f'REPOSITORY = "file://{clone}"', source, flags=re.M)
        (empty / "chapter.ipynb").write_text(json.dumps(notebook))
        python = work / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PREINSTALLED, *RUNNER], check=True)
        clean = {key: value for key, value in os.environ.items() if key not in ("GNNSSM_DATA", "PYTHONPATH")}
        start = time.time()
        clean["PATH"] = f"{python.parent}:{clean['PATH']}"
        subprocess.run([python, "-c", RUN, "chapter.ipynb"], check=True, cwd=empty, env=clean)
        print(f"{chapter} ran as on Colab in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
