# @title Set-up
import importlib.util
import subprocess
import sys

REPOSITORY = "https://github.com/OWNER/gnnssm_lite"

if importlib.util.find_spec("gnnssm_lite") is None:
    print(f"Installing gnnssm_lite from {REPOSITORY}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", f"git+{REPOSITORY}"]
    result = subprocess.run(pip, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"gnnssm_lite could not be installed from {REPOSITORY}:\n{result.stderr}")
    importlib.invalidate_caches()
