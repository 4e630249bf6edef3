"""Work in pieces through dask: on the user's cluster where there is one, else here and a few at a time."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from dask import config
from dask.delayed import delayed

from sjg.core import ClusterError

if TYPE_CHECKING:
    from dask.delayed import Delayed

_T = TypeVar("_T")


def compute_in_order(pieces: Iterable[Delayed]) -> Iterator[Any]:
    """Yield the results of delayed pieces in their order, holding only a few.

    With a ``distributed.Client`` (the current one) pieces are computed by its workers, as many at once as they have threads and one more
    waiting for each worker; without one they are computed here, one at a time. Either way the results are the same. Pieces of a worker that
    is lost are computed again by another one.

    Raises
    ------
    ClusterError
        Workers were lost over one piece again and again.

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
    waiting: deque[Any] = deque()
    try:
        for piece in pieces:
            # a piece holds what it needs, which is not to be had more cheaply: nothing to warn of
            with config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"}):
                waiting.append(client.compute(piece))
            # asked anew each time: workers of a batch system come and go
            while len(waiting) >= _ahead(client):
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


def _ahead(client: Any) -> int:
    """Pieces in the making at once."""
    return max(1, sum(worker["nthreads"] + 1 for worker in client.scheduler_info(n_workers=-1)["workers"].values()))


def _result(future: Any) -> Any:
    try:
        return future.result()
    except sys.modules["distributed"].KilledWorker as error:
        raise ClusterError(
            f"{error.allowed_failures + 1} workers of the distributed.Client died over the same piece of work, most likely for lack of memory; "
            "give each worker more memory or fewer threads, or run without a Client."
        ) from error


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
    # a client can only exist where its package was imported
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_client()
    except ValueError:
        return None
