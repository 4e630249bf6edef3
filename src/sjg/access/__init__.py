"""The only place that knows SpatialData elements, transformations and dask: it reads arrays out and writes results in."""

from sjg.access._attach import Outputs, attach, check_new_keys, check_output_keys
from sjg.access._channels import ChannelImage, ChannelValues, choose_channel_image, choose_channels, read_channels
from sjg.access._choose import choose_channel, choose_feature_key, choose_image, choose_labels, choose_nuclei, choose_points
from sjg.access._class_means import class_means
from sjg.access._compute import compute_in_order, current_client, starmap_in_order
from sjg.access._counting import LabelledMolecules, labels_table, molecules_in_labels, named_area
from sjg.access._frames import affine_matrix, apply_affine, choose_coordinate_system, grid_extent
from sjg.access._genes import with_genes
from sjg.access._geometry import areas_and_centroids, outlines
from sjg.access._grid import labels_grid, nucleus_diameter_px, working_grid
from sjg.access._image import read_image
from sjg.access._intensity import instance_table, mean_intensity
from sjg.access._label_pairs import labels_like, labels_on_grid, read_label_pair
from sjg.access._labels import number_from_one, read_labels_on_grid
from sjg.access._maps import write_maps
from sjg.access._molecules import CONTROL_PATTERN, MoleculeReport, read_molecules
from sjg.access._nuclei import rasterize_shapes, read_nuclei
from sjg.access._patches import INFORMATIVE_COLUMN, patches_element, read_patches
from sjg.access._pixel_size import image_pixel_size_um, known_pixel_size_um, labels_pixel_size_um, only_pixel_size_um, units_per_pixel
from sjg.access._plain import history_columns, plain
from sjg.access._planes import (
    channel_names,
    channel_planes,
    choose_planes,
    image_grid,
    image_shape,
    length_px,
    read_box,
)
from sjg.access._points import molecule_column, with_columns
from sjg.access._stitched import (
    MAX_IN_MEMORY_PX2,
    blank_rasters,
    boundaries_element,
    in_memory,
    labels_element,
    numbered_labels,
    read_again,
)
from sjg.access._table import build_table, count_matrix
from sjg.access._types import annotating_tables, read_nuclei_types
from sjg.access._write import grid_transformations, segmentation_table, write_segmentation
from sjg.access._write_channels import write_channel_segmentation

__all__ = [
    "CONTROL_PATTERN",
    "INFORMATIVE_COLUMN",
    "MAX_IN_MEMORY_PX2",
    "ChannelImage",
    "ChannelValues",
    "LabelledMolecules",
    "MoleculeReport",
    "Outputs",
    "affine_matrix",
    "annotating_tables",
    "apply_affine",
    "areas_and_centroids",
    "attach",
    "blank_rasters",
    "boundaries_element",
    "build_table",
    "channel_names",
    "channel_planes",
    "check_new_keys",
    "check_output_keys",
    "choose_channel",
    "choose_channel_image",
    "choose_channels",
    "choose_coordinate_system",
    "choose_feature_key",
    "choose_image",
    "choose_labels",
    "choose_nuclei",
    "choose_planes",
    "choose_points",
    "class_means",
    "compute_in_order",
    "count_matrix",
    "current_client",
    "grid_extent",
    "grid_transformations",
    "history_columns",
    "image_grid",
    "image_pixel_size_um",
    "image_shape",
    "in_memory",
    "instance_table",
    "known_pixel_size_um",
    "labels_element",
    "labels_grid",
    "labels_like",
    "labels_on_grid",
    "labels_pixel_size_um",
    "labels_table",
    "length_px",
    "mean_intensity",
    "molecule_column",
    "molecules_in_labels",
    "named_area",
    "nucleus_diameter_px",
    "number_from_one",
    "numbered_labels",
    "only_pixel_size_um",
    "outlines",
    "patches_element",
    "plain",
    "rasterize_shapes",
    "read_again",
    "read_box",
    "read_channels",
    "read_image",
    "read_label_pair",
    "read_labels_on_grid",
    "read_molecules",
    "read_nuclei",
    "read_nuclei_types",
    "read_patches",
    "segmentation_table",
    "starmap_in_order",
    "units_per_pixel",
    "with_columns",
    "with_genes",
    "working_grid",
    "write_channel_segmentation",
    "write_maps",
    "write_segmentation",
]
