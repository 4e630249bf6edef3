"""Jobs done by several threads, with results in the order of the jobs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from sjg._settings import settings

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
#: workers beside a GPU, which waits for what NumPy and SciPy prepare
_BESIDE_GPU = 8


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread of PyTorch in here."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def default_workers(device: torch.device) -> int:
    """:attr:`sjg.settings.n_workers`, else as many as PyTorch has threads; beside a GPU as many as there are cores, at most 8."""
    if settings.n_workers is not None:
        return settings.n_workers
    if device.type == "cpu":
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_BESIDE_GPU, cores))


def in_order(work: Callable[[_Job], _Result], jobs: Iterable[_Job], n_workers: int) -> Generator[_Result]:
    """Results of `work` for each of `jobs`, in their order.

    Each worker computes with one thread of PyTorch, and so does a single one, so that results do not depend on the number of workers or
    of threads. Of results that wait there is at most one for each worker.

    Examples
    --------
    >>> from sjg.training._workers import in_order
    >>> list(in_order(abs, [-1, 2, -3], 2))
    [1, 2, 3]
    """
    if n_workers == 1:
        for job in jobs:
            with one_thread():
                result = work(job)
            yield result
        return
    n_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="sjg", initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[_Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        # new threads take this number over from the last call
        torch.set_num_threads(n_threads)


def starmap_in_threads(function: Callable[..., _Result], arguments: Iterable[tuple[Any, ...]], *, n_workers: int) -> Generator[_Result]:
    """`itertools.starmap` by :func:`in_order`."""
    return in_order(lambda each: function(*each), arguments, n_workers)
