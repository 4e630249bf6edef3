"""Patch files of the original research code: names and contents, one file at a time, nothing ever unpickled."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjg._logging import logger
from sjg.core import InputError

METADATA = "metadata.npz"
#: keys of every file: number of dimensions and kinds of dtype
REQUIRED = {"image": (3, "f"), "label": (2, "iu"), "instance": (2, "iu"), "spots": (2, "f"), "dapi": (2, "f")}
OPTIONAL = {"ground_truth": (2, "iu")}
#: integer keys, each with a background convention
INTEGER_KEYS = ("label", "instance", "ground_truth")
GENE_KEYS = ("gene_names", "genes", "gene")
CLASS_KEYS = ("class_names", "cell_types", "classes")
_FOLDERS = ("train", "test")
_NAME = re.compile(r"p_(\d+)_(\d+)(?:_(\d+)_(\d+))?\.npz")
#: what NumPy and zipfile raise on damaged files
_DAMAGED = (OSError, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class PatchFile:
    """A patch file and its place.

    Parameters
    ----------
    path
        The file.
    name
        Its path from the folder that was read, with forward slashes: ``p_0_1.npz``, ``train/p_0_1.npz``.
    row, column
        Place on the grid of patches.
    """

    path: Path
    name: str
    row: int
    column: int


def find_patches(folder: Path) -> list[PatchFile]:
    """The patch files of a folder, and of ``train`` and ``test`` in it, by row and column.

    Names with a group are placed by ``group_row * rows per group + row``, where a group has as many rows as the highest row in
    any group tells, and likewise for columns.

    Raises
    ------
    InputError
        No folder, no patches, a name that is no patch's, names of both kinds, or two files for one place.
    """
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder; give the one that holds the files p_<row>_<col>.npz.")
    paths = [path for place in (folder, *(folder / name for name in _FOLDERS)) for path in sorted(place.glob("*.npz"))]
    parsed = []
    for path in paths:
        if path.name == METADATA:
            continue
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise InputError(
                f"{str(path)!r} is not named like a patch: expected p_<row>_<col>.npz or p_<group_row>_<group_col>_<row>_<col>.npz; "
                "rename it or move it elsewhere."
            )
        parsed.append((path, tuple(int(number) for number in match.groups() if number is not None)))
    if not parsed:
        raise InputError(f"{str(folder)!r} holds no files p_<row>_<col>.npz, nor do its folders train and test.")
    if len({len(numbers) for _, numbers in parsed}) > 1:
        odd = min(parsed, key=lambda item: (sum(len(numbers) == len(item[1]) for _, numbers in parsed), str(item[0])))[0]
        raise InputError(f"{str(folder)!r} mixes names with and without a group, e.g. {str(odd)!r}; read them from separate folders.")
    group_rows, group_columns = (1 + max(numbers[axis] for _, numbers in parsed) for axis in (-2, -1))
    patches: dict[tuple[int, int], PatchFile] = {}
    for path, numbers in parsed:
        row, column = numbers[-2:]
        if len(numbers) == 4:
            row, column = numbers[0] * group_rows + row, numbers[1] * group_columns + column
        patch = PatchFile(path, path.relative_to(folder).as_posix(), row, column)
        other = patches.setdefault((row, column), patch)
        if other is not patch:
            raise InputError(f"{str(other.path)!r} and {str(path)!r} are both patch ({row}, {column}); keep one of them.")
    return [patches[place] for place in sorted(patches)]


def load_patch(path: Path) -> dict[str, NDArray[Any]]:
    """Read and check one patch file.

    Returns
    -------
    ``image`` (C, H, W), ``spots`` and ``dapi`` (H, W), finite floats; ``label``, ``instance`` and, where there is one,
    ``ground_truth`` (H, W), integers from -1.

    Raises
    ------
    InputError
        The file is damaged, a key is missing or does not hold what it should; the message names file and reason.
    """
    arrays = load_arrays(path, wanted={**REQUIRED, **OPTIONAL})
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise InputError(f"{str(path)!r} lacks {', '.join(map(repr, missing))}; a patch has {', '.join(REQUIRED)}.")
    for key, array in arrays.items():
        n_dims, kinds = {**REQUIRED, **OPTIONAL}[key]
        if array.dtype.kind not in kinds:
            wanted = "floating point numbers" if kinds == "f" else "integers"
            raise InputError(f"{str(path)!r}: {key!r} holds {array.dtype} values; it must hold {wanted}.")
        if array.ndim != n_dims or array.size == 0:
            shape = "(C, H, W)" if n_dims == 3 else "(H, W)"
            raise InputError(f"{str(path)!r}: {key!r} has shape {array.shape}; it must be {shape} and not empty.")
        if array.shape[-2:] != arrays["image"].shape[-2:]:
            raise InputError(f"{str(path)!r}: {key!r} has shape {array.shape} beside an image of shape {arrays['image'].shape}.")
        if kinds == "f" and not np.isfinite(array).all():
            raise InputError(f"{str(path)!r}: {key!r} has {int((~np.isfinite(array)).sum())} values that are NaN or infinite.")
        if kinds == "iu" and (int(array.min()) < -1 or int(array.max()) >= np.iinfo(np.int32).max):
            raise InputError(
                f"{str(path)!r}: {key!r} reaches from {array.min()} to {array.max()}; ids start at 0, background is -1 or 0, "
                "and ids must fit 32 bits."
            )
    return arrays


def load_names(folder: Path, n_channels: int) -> tuple[dict[str, str], list[str], list[str] | None, list[str] | None]:
    """Names of genes and classes from ``metadata.npz`` in the folder or in ``train`` or ``test``.

    Returns
    -------
    keys
        The key of the file under which "genes" and "classes" were found.
    files
        The metadata files, as paths from the folder.
    genes
        The names of the channels, or None.
    classes
        The names of the classes, or None.

    Raises
    ------
    InputError
        A metadata file is damaged, its names do not fit, or two such files disagree.
    """
    found = [path for path in (folder / METADATA, *(folder / name / METADATA for name in _FOLDERS)) if path.is_file()]
    read = []
    for path in found:
        arrays = load_arrays(path)
        keys = {kind: next((key for key in known if key in arrays), "") for kind, known in (("genes", GENE_KEYS), ("classes", CLASS_KEYS))}
        names = {kind: _names(path, key, arrays[key]) if key else None for kind, key in keys.items()}
        genes = names["genes"]
        if genes is not None and len(genes) != n_channels:
            raise InputError(f"{str(path)!r}: {keys['genes']!r} has {len(genes)} names for {n_channels} channels.")
        others = sorted(set(arrays) - set(keys.values()))
        if others:
            logger.warning("%s: keys %s are not read, and not written again by write_patches", path, ", ".join(others))
        read.append((keys, genes, names["classes"]))
    if not read:
        return {}, [], None, None
    if any(other != read[0] for other in read[1:]):
        raise InputError(f"{' and '.join(repr(str(path)) for path in found)} disagree; keep one of them.")
    keys, genes, classes = read[0]
    return {kind: key for kind, key in keys.items() if key}, [path.relative_to(folder).as_posix() for path in found], genes, classes


def unknown_keys(path: Path) -> list[str]:
    """Keys of a patch file that sjg does not know."""
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    return sorted(names - {*REQUIRED, *OPTIONAL})


def load_arrays(path: Path, *, wanted: dict[str, Any] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file (only those of `wanted`), refusing pickled objects.

    Raises
    ------
    InputError
        The file cannot be read, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            repeated = len(set(names)) < len(names)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files if wanted is None or key in wanted}
    except _DAMAGED as error:
        if isinstance(error, ValueError) and "allow_pickle" in str(error):
            raise InputError(
                f"{str(path)!r} holds pickled Python objects, which sjg never loads; save plain numeric or text arrays (np.savez)."
            ) from error
        raise InputError(f"{str(path)!r} cannot be read as .npz ({type(error).__name__}: {error}); fetch or write it again.") from error
    if repeated:
        raise InputError(f"{str(path)!r} has one key twice; write it again with np.savez.")
    plain = {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}
    if len(plain) < len(arrays):
        raise InputError(
            f"{str(path)!r} holds entries that are no arrays: {sorted(set(arrays) - set(plain))}; write it again with np.savez."
        )
    return plain


def _names(path: Path, key: str, array: NDArray[Any]) -> list[str]:
    if array.dtype.kind not in "US" or array.ndim != 1:
        raise InputError(f"{str(path)!r}: {key!r} has dtype {array.dtype} and shape {array.shape}; it must be a list of names.")
    names = [str(name) for name in (np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array)]
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"{str(path)!r}: {key!r} has empty or repeated names.")
    return names
