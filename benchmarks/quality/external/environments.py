"""Makes the environments of the tools that sjg is compared with: environments.py [NAME ...].

Each NAME.txt beside this file becomes a virtual environment in $SJG_BENCHMARK_ENVIRONMENTS (default: a folder among the temporary
files). The tools pin packages that sjg does not want, so they never meet: they run as subprocesses, with files in between.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from methods import ENVIRONMENTS  # noqa: E402 - beside this folder, not a package


def main() -> None:
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.txt"))
    for name in names:
        folder = ENVIRONMENTS / name
        if not (folder / "bin" / "python").exists():
            venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--requirement", HERE / f"{name}.txt"], check=True)
        print(f"{name}: {folder}")


if __name__ == "__main__":
    main()
