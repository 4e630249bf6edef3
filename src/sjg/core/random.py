"""Explicit random states."""

from __future__ import annotations

import numpy as np


def generator(random_state: int | np.random.Generator | None, *path: int) -> np.random.Generator:
    """A generator for `random_state`; `path` names an independent stream of the same seed.

    Examples
    --------
    >>> from sjg.core.random import generator
    >>> float(generator(0, 1).random()) == float(generator(0, 1).random())
    True
    >>> float(generator(0, 1).random()) == float(generator(0, 2).random())
    False
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if random_state is None:
        return np.random.default_rng()
    return np.random.default_rng(np.random.SeedSequence(int(random_state), spawn_key=path))
