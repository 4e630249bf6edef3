"""Work in pieces through dask: on the user's cluster where there is one, else here and a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from dask.delayed import delayed

if TYPE_CHECKING:
    from dask.delayed import Delayed

_T = TypeVar("_T")
#: pieces in the making for each worker of a cluster
_AHEAD = 2


def compute_in_order(pieces: Iterable[Delayed]) -> Iterator[Any]:
    """Yield the results of delayed pieces in their order, holding only a few.

    With a ``distributed.Client`` (the current one) pieces are computed by its workers, two ahead for each worker; without one they
    are computed here, one at a time. Either way the results are the same.

    Examples
    --------
    >>> from dask.delayed import delayed
    >>> from sjg.access import compute_in_order
    >>> list(compute_in_order(delayed(abs)(x) for x in (-1, 2)))
    [1, 2]
    """
    client = current_client()
    if client is None:
        for piece in pieces:
            yield piece.compute(scheduler="synchronous")
        return
    ahead = max(1, _AHEAD * len(client.scheduler_info(n_workers=-1)["workers"]))
    waiting: deque[Any] = deque()
    for piece in pieces:
        waiting.append(client.compute(piece))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def starmap_in_order(function: Callable[..., _T], arguments: Iterable[tuple[Any, ...]]) -> Iterator[_T]:
    """`itertools.starmap` through :func:`compute_in_order`.

    Examples
    --------
    >>> from sjg.access import starmap_in_order
    >>> list(starmap_in_order(pow, [(2, 3), (3, 2)]))
    [8, 9]
    """
    call = delayed(function, pure=False)
    return compute_in_order(call(*each) for each in arguments)


def current_client() -> Any:
    """The user's ``distributed.Client``, None where there is none."""
    import sys

    # a client can only exist where its package was imported
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None
