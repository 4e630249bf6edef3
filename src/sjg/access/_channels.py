"""The channels of an image in place of genes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from spatialdata.models import get_channel_names

from sjg._logging import logger
from sjg.access._choose import choose_channel, choose_image
from sjg.access._frames import affine_matrix
from sjg.access._image import read_plane
from sjg.access._raster import raster_levels
from sjg.core import Channels, Grid, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

ChannelValues = Literal["auto", "density", "intensity"]

#: a whole channel name that means a nuclear stain; a gene such as Nucks1 is none
_STAIN = re.compile(r"^(dapi|hoechst|draq5|nucleus|nuclei|nuclear)([^a-z].*)?$", re.IGNORECASE)
#: images up to this size are held in memory
_IN_MEMORY_BYTES = 2 * 2**30
#: pixels from which backgrounds and scales are estimated
_SAMPLE_PX = 400_000
_BLOCK_PX = 512
#: percentiles of a stain that count as background and as full signal
_BACKGROUND, _FULL = 10.0, 99.5
#: units per median nucleus that the intensities of all channels together are scaled to
_UNITS_PER_NUCLEUS = 150.0
#: densities with fewer or more molecules per median nucleus than this are no counts and are scaled into the range
_PLAUSIBLE_PER_NUCLEUS = (1.0, 1000.0)

Read = Callable[[slice, slice], NDArray[np.float32]]


@dataclass(frozen=True)
class ChannelImage:
    """Channels on the grid, as the image holds them and as densities.

    Parameters
    ----------
    names
        The C channels.
    shape
        (height, width) of the grid.
    raw
        (C, h, w) float32 values of a window as the image holds them, NaN as 0.
    offset, gain
        (C,) ``density = max(value - offset, 0) * gain``.
    """

    names: tuple[str, ...]
    shape: tuple[int, int]
    raw: Read
    offset: NDArray[np.float32]
    gain: NDArray[np.float32]

    def densities(self) -> Channels:
        """What counts as molecules per pixel."""

        def read(rows: slice, columns: slice) -> NDArray[np.float32]:
            values = self.raw(rows, columns) - self.offset[:, None, None]
            return np.maximum(values, 0) * self.gain[:, None, None]

        return Channels(self.names, self.shape, read)

    def totals(self, labels: NDArray[np.integer], n: int) -> NDArray[np.float64]:
        """(n, C) sums of the values of each channel over labels 1..n."""
        out = np.zeros((n + 1, len(self.names)))
        for rows, columns in _windows(self.shape):
            group = labels[rows, columns].ravel()
            for column, plane in enumerate(self.raw(rows, columns)):
                out[:, column] += np.bincount(group, plane.ravel(), n + 1)
        return out[1:]


def choose_channel_image(sdata: SpatialData, image_key: str | None = None) -> str:
    """Key of the image whose channels are used: `image_key`, else the only image, or the only one with several channels.

    Raises
    ------
    MissingElementError, AmbiguousElementError, InputError
        As :func:`choose_image`.
    """
    if image_key is None and len(sdata.images) > 1:
        several = [key for key, image in sdata.images.items() if len(get_channel_names(image)) > 1]
        image_key = several[0] if len(several) == 1 else None
    return choose_image(sdata, image_key)


def choose_channels(
    sdata: SpatialData,
    image_key: str,
    channels: Sequence[str] | None = None,
    *,
    nuclear: str | int | None = None,
    find_nuclei: bool = False,
) -> list[int]:
    """Indices of the channels that stand in place of genes.

    Parameters
    ----------
    sdata
        The object.
    image_key
        The image.
    channels
        Their names; None = all but the nuclear stain.
    nuclear
        The nuclear channel, by name or index.
    find_nuclei
        Whether nuclei are found in this image, so that it must have a nuclear channel.

    Raises
    ------
    InputError
        No such channel, or fewer than two.
    """
    names = [str(name) for name in get_channel_names(sdata.images[image_key])]
    if channels is not None:
        wanted = [channels] if isinstance(channels, str) else [str(channel) for channel in channels]
        missing = [name for name in wanted if name not in names]
        if missing or len(set(wanted)) < len(wanted):
            raise InputError(f"channels={wanted}: images[{image_key!r}] has the channels {names}; name each of those wanted once.")
        found = [names.index(name) for name in wanted]
    elif len(names) == 1:
        found = []
    elif nuclear is not None or find_nuclei:
        stain = choose_channel(sdata, image_key, nuclear)
        found = [index for index in range(len(names)) if index != stain]
    else:
        found = [index for index, name in enumerate(names) if not _STAIN.match(name)]
    if len(found) < 2:
        raise InputError(
            f"images[{image_key!r}] has {len(found)} channels to take in place of genes ({_listed(names)} without the nuclear stain), and at "
            "least 2 are needed. An object without points is segmented by channels: add the transcripts with PointsModel.parse(...), or choose "
            "another image_key= or channels=."
        )
    return found


def read_channels(
    sdata: SpatialData,
    image_key: str,
    grid: Grid,
    channels: Sequence[int],
    *,
    values: Literal["density", "intensity"],
    nuclei: NDArray[np.integer],
    coordinate_system: str = "global",
) -> ChannelImage:
    """Channels of an image on the grid.

    Images up to 2 GB are held in memory; larger ones are read window by window where the grid is their own pixel grid.

    Parameters
    ----------
    sdata
        The object.
    image_key
        The image from which the grid was made.
    grid
        The working raster.
    channels
        Indices of the channels.
    values
        ``"density"``: molecules per pixel, taken as they are (all scaled by one factor where a median nucleus would hold less than 1 or more
        than 1,000). ``"intensity"``: stains; the background of each channel (10th percentile) is subtracted, the 99.5th percentile is the same
        for all but channels of noise, and a median nucleus holds 150 units.
    nuclei
        (H, W) nuclei on the grid, for the scale.
    coordinate_system
        The coordinate system of `grid`.

    Raises
    ------
    InputError
        Negative densities, or no channel with a signal.
    """
    names = tuple(str(get_channel_names(sdata.images[image_key])[index]) for index in channels)
    raw = _reader(sdata, image_key, grid, list(channels), coordinate_system)
    sample, in_nuclei, shared = _sample(raw, grid.shape, nuclei)
    if values == "density":
        if sample.min(initial=0) < 0:
            raise InputError(
                f"images[{image_key!r}] has negative values, so it holds no densities; pass channel_values='intensity', or mend the image."
            )
        # a grid pixel that holds several image pixels holds the molecules of all of them
        to_image = np.linalg.inv(affine_matrix(sdata, image_key, coordinate_system)) @ grid.matrix
        offset, gain = np.zeros(len(names)), np.full(len(names), abs(np.linalg.det(to_image[:2, :2])))
    else:
        offset, full = np.percentile(sample, [_BACKGROUND, _FULL], axis=1)
        spread = np.maximum(full, sample.max(axis=1) * 1e-3) - offset
        # a channel without stain is noise, which must not be blown up to the scale of the others: neighbouring pixels share nothing in it
        gain = np.where(spread > 0, shared / np.where(spread > 0, spread, 1), 0)
        silent = [name for name, seen in zip(names, gain > 0, strict=True) if not seen]
        if silent:
            logger.warning("images[%r]: channels without any signal: %s", image_key, ", ".join(silent[:5]))
    area = np.bincount(nuclei.ravel())[1:]
    densities = np.maximum(sample[:, in_nuclei] - offset[:, None], 0) * gain[:, None]
    per_nucleus = float(densities.sum(axis=0).mean() * np.median(area[area > 0])) if in_nuclei.any() else 0.0
    if per_nucleus <= 0:
        raise InputError(f"images[{image_key!r}] is empty in all nuclei in the channels {_listed(names)}; choose others with channels=.")
    wanted = _UNITS_PER_NUCLEUS if values == "intensity" else float(np.clip(per_nucleus, *_PLAUSIBLE_PER_NUCLEUS))
    gain = gain * (wanted / per_nucleus)
    logger.info("images[%r]: %d channels as %s, %.3g units in a median nucleus", image_key, len(names), values, wanted)
    return ChannelImage(names, grid.shape, raw, offset.astype(np.float32), gain.astype(np.float32))


def _reader(sdata: SpatialData, image_key: str, grid: Grid, channels: list[int], coordinate_system: str) -> Read:
    image = raster_levels(sdata.images[image_key])[0].transpose("c", "y", "x")
    own = np.allclose(affine_matrix(sdata, image_key, coordinate_system), grid.matrix) and image.shape[1:] == grid.shape
    if own:
        data = image.data[channels]
        if 4 * data.size > _IN_MEMORY_BYTES:

            def lazily(rows: slice, columns: slice) -> NDArray[np.float32]:
                return np.nan_to_num(np.asarray(data[:, rows, columns], dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)

            return lazily
        held = np.nan_to_num(np.asarray(data, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    else:
        held = np.stack([read_plane(sdata, image_key, grid, index, coordinate_system=coordinate_system)[0] for index in channels])

    def from_memory(rows: slice, columns: slice) -> NDArray[np.float32]:
        return held[:, rows, columns]

    return from_memory


def _sample(
    raw: Read, shape: tuple[int, int], nuclei: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """(C, P) values at every so many pixels, (P,) whether each lies in a nucleus, and (C,) correlation of a pixel with its neighbour, >= 0."""
    step = max(1, int(np.sqrt(shape[0] * shape[1] / _SAMPLE_PX)))
    values, right, inside = [], [], []
    for rows, columns in _windows(shape):
        block = raw(rows, columns)
        values.append(block[:, ::step, ::step].reshape(len(block), -1))
        right.append(np.roll(block, -1, axis=2)[:, ::step, ::step].reshape(len(block), -1))
        inside.append(nuclei[rows, columns][::step, ::step].ravel() > 0)
    sample, neighbour = (np.concatenate(part, axis=1) for part in (values, right))
    centred, beside = (part - part.mean(axis=1, keepdims=True, dtype=np.float64) for part in (sample, neighbour))
    variance = np.sqrt((centred**2).mean(axis=1) * (beside**2).mean(axis=1))
    shared = np.divide((centred * beside).mean(axis=1), variance, out=np.zeros(len(sample)), where=variance > 0)
    return sample, np.concatenate(inside), np.clip(shared, 0, 1)


def _windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    return [
        (slice(top, min(top + _BLOCK_PX, shape[0])), slice(left, min(left + _BLOCK_PX, shape[1])))
        for top in range(0, shape[0], _BLOCK_PX)
        for left in range(0, shape[1], _BLOCK_PX)
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
