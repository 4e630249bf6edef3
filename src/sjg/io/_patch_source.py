"""What patch files hold, cut from any SpatialData object on the pixel grid of its nuclei."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError, MissingElementError

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: (C, h, w) float32 densities of a window (rows, columns)
Densities = Callable[[slice, slice], NDArray[np.float32]]


class PatchSource:
    """Rasters on the pixel grid of labels.

    Parameters
    ----------
    sdata
        The object.
    nuclei_key
        The labels.
    coordinate_system
        Where the elements are brought together.
    """

    def __init__(self, sdata: SpatialData, nuclei_key: str, *, coordinate_system: str) -> None:
        from sjg.access import choose_labels, labels_grid, read_labels_on_grid

        self.sdata = sdata
        self.coordinate_system = coordinate_system
        self.nuclei_key = choose_labels(sdata, nuclei_key, argument="nuclei_key")
        self.grid = labels_grid(sdata, nuclei_key, coordinate_system=coordinate_system)
        self.numbers, self.source_ids = read_labels_on_grid(sdata, nuclei_key, self.grid, coordinate_system=coordinate_system)
        self.ids = _with_ids(self.numbers, self.source_ids, nuclei_key)

    def classes(self, cell_type_key: str | None) -> tuple[NDArray[np.int32], list[str]]:
        """(H, W) class 1..K of each pixel, 0 = background or no type, and the names of the classes."""
        from sjg.access import read_nuclei_types

        if cell_type_key is None:
            return (self.numbers > 0).astype(np.int32), ["cell"]
        names, codes = read_nuclei_types(self.sdata, self.nuclei_key, cell_type_key, self.source_ids)
        return np.concatenate([[0], codes + 1]).astype(np.int32)[self.numbers], list(names)

    def labels(self, key: str) -> NDArray[np.int32]:
        """(H, W) ids of other labels."""
        from sjg.access import choose_labels, read_labels_on_grid

        choose_labels(self.sdata, key, argument="ground_truth_key")
        numbers, source_ids = read_labels_on_grid(self.sdata, key, self.grid, coordinate_system=self.coordinate_system)
        return _with_ids(numbers, source_ids, key)

    def dapi(self, image_key: str | None, channel: str | int | None) -> NDArray[np.float32]:
        """(H, W) nuclear stain."""
        from sjg.access import choose_image, read_image

        key = choose_image(self.sdata, image_key)
        return read_image(self.sdata, key, self.grid, channel=channel, coordinate_system=self.coordinate_system)

    def densities_of_points(self, points_key: str | None, feature_key: str | None, sigma_px: float) -> tuple[list[str], Densities]:
        """Names of the genes, and histograms of their transcripts under a Gaussian blur."""
        import torch

        from sjg.access import choose_points, read_molecules
        from sjg.raster import bin_counts, gaussian_blur
        from sjg.raster._blur import blur_radius_px

        key = choose_points(self.sdata, points_key)
        molecules, _ = read_molecules(
            self.sdata, key, self.grid, coordinate_system=self.coordinate_system, feature_key=feature_key, min_genes=1
        )
        order = np.argsort(molecules.yx_px[:, 0], kind="stable")
        yx_px, gene = molecules.yx_px[order], molecules.gene[order]
        # as far as the blur reaches, so that patches have no seams
        halo = blur_radius_px(sigma_px)

        def cut(rows: slice, columns: slice) -> NDArray[np.float32]:
            stop_row, stop_column = min(rows.stop, self.grid.shape[0]), min(columns.stop, self.grid.shape[1])
            low = np.array([rows.start - halo, columns.start - halo], dtype=np.float32)
            shape = (stop_row - rows.start + 2 * halo, stop_column - columns.start + 2 * halo)
            near = slice(*np.searchsorted(yx_px[:, 0], (low[0], low[0] + shape[0])))
            counts = bin_counts(torch.from_numpy(yx_px[near] - low), torch.from_numpy(gene[near]), shape, n_genes=len(molecules.gene_names))
            blurred = gaussian_blur(counts, sigma_px)
            inner: NDArray[np.float32] = blurred[:, halo : shape[0] - halo, halo : shape[1] - halo].numpy()
            return inner

        return list(molecules.gene_names), cut

    def densities_of_image(self, genes_key: str) -> tuple[list[str], Densities]:
        """Names of the channels of an image on the same pixel grid, and its values."""
        from spatialdata.models import get_channel_names

        from sjg.access import affine_matrix
        from sjg.access._raster import raster_levels

        if genes_key not in self.sdata.images:
            raise MissingElementError(
                f"genes_key={genes_key!r} names no image of the SpatialData object; there are: {sorted(self.sdata.images)}."
            )
        image = raster_levels(self.sdata.images[genes_key])[0].transpose("c", "y", "x")
        matrix = affine_matrix(self.sdata, genes_key, self.coordinate_system)
        if image.shape[1:] != self.grid.shape or not np.allclose(matrix, self.grid.matrix):
            raise InputError(
                f"images[{genes_key!r}] {image.shape[1:]} and labels[{self.nuclei_key!r}] {self.grid.shape} do not share one pixel grid; "
                "bring them on one (spatialdata.rasterize), or give transcripts with points_key=."
            )

        def cut(rows: slice, columns: slice) -> NDArray[np.float32]:
            values: Any = image.data[:, rows, columns]
            return np.asarray(values, dtype=np.float32)

        return [str(name) for name in get_channel_names(self.sdata.images[genes_key])], cut


def _with_ids(numbers: NDArray[np.int32], source_ids: NDArray[np.int64], key: str) -> NDArray[np.int32]:
    """Put the ids of the element back in place of the numbers 1..n."""
    if source_ids.size and source_ids[-1] >= np.iinfo(np.int32).max:
        raise InputError(
            f"labels[{key!r}] has ids up to {source_ids[-1]}; patch files hold 32 bits: relabel it (skimage relabel_sequential)."
        )
    return np.concatenate([[0], source_ids]).astype(np.int32)[numbers]
