"""Inner boundaries of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def inner_boundary(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of an object with a neighbour (4 in the plane) that is not of it; the border of the image is no neighbour.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging import inner_boundary
    >>> inner_boundary(np.array([[1, 1, 1, 0], [1, 1, 1, 2], [1, 1, 1, 2]])).astype(int).tolist()
    [[0, 0, 1, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    boundary = np.zeros(labels.shape, dtype=bool)
    for axis in range(labels.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        differs = labels[before] != labels[after]
        boundary[before] |= differs
        boundary[after] |= differs
    boundary &= labels > 0
    return boundary
