"""Threads of our own that share out the tasks of the CPU's kernels."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def share_out(work: Callable[[int], None], tasks: int) -> None:
    """Do ``work`` for every task, on as many threads as PyTorch is set to use."""
    workers = min(tasks, torch.get_num_threads())
    if workers == 1:
        _work_off(work, range(tasks))
        return
    shares = [range(k, tasks, workers) for k in range(workers)]
    futures = [_threads().submit(_work_off, work, share) for share in shares]
    for future in futures:
        future.result()


def _work_off(work: Callable[[int], None], tasks: range) -> None:
    for task in tasks:
        work(task)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="selective-scan")
