"""Versions for bug reports and for the record of a run."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

#: what decides a result, or what is most often behind a bug report
PACKAGES = (
    "sjg",
    "numpy",
    "scipy",
    "scikit-image",
    "torch",
    "monai",
    "lightning-fabric",
    "anndata",
    "scanpy",
    "spatialdata",
    "spatialdata-plot",
    "squidpy",
    "dask",
    "xarray",
    "zarr",
    "geopandas",
    "shapely",
    "pandas",
)


def package_versions() -> dict[str, str]:
    """Versions of Python, of sjg and of the packages it stands on; packages that are not installed are left out.

    Nothing is imported: the versions come from the installed metadata.

    Examples
    --------
    >>> from sjg._versions import package_versions
    >>> "sjg" in package_versions()
    True
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def print_versions(*, file: TextIO | None = None) -> None:
    """Print the versions that a bug report needs: packages, Python, operating system and accelerator.

    Parameters
    ----------
    file
        Where to print, standard output by default.

    Returns
    -------
    None

    Examples
    --------
    >>> import io, sjg
    >>> report = io.StringIO()
    >>> sjg.print_versions(file=report)
    >>> "spatialdata" in report.getvalue()
    True
    """
    import torch  # slow, and `import sjg` must stay fast

    rows = {
        **package_versions(),
        "platform": platform.platform(),
        "accelerator": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none",
    }
    width = max(map(len, rows))
    print(*(f"{name:<{width}}  {value}" for name, value in rows.items()), sep="\n", file=file or sys.stdout)
