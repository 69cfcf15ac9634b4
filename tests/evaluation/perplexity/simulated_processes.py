"""Processes of an evaluation as threads of this one, which exchange pickled results and count their bytes."""

import pickle
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from textgen.evaluation import exchange


class Group:
    """``Group(3).run(work)``: the results of ``work(process)`` in three threads, one for each process.

    Attributes:
        received: bytes that each process received from others, by its index.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.received: Counter[int] = Counter()
        self._rank = threading.local()
        self._barrier = threading.Barrier(size, timeout=60)
        self._turn = threading.Lock()  # one at a time: they share the model, which remembers who is using it
        self._slots: list[bytes] = [b""] * size

    def run(self, work: Callable[[Any], Any]) -> list[Any]:
        def one(rank: int) -> Any:
            self._rank.index = rank
            facts = {"process_index": rank, "num_processes": self.size, "is_main_process": rank == 0}
            try:
                with self._turn:
                    return work(SimpleNamespace(device=torch.device("cpu"), **facts))
            except BaseException:
                self._barrier.abort()  # the others must not wait
                raise

        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(self.size) as pool:
            patch.setattr(exchange, "gather_object", lambda mine: [x for part in self._all(mine) for x in part])
            patch.setattr(exchange, "broadcast_object_list", self._broadcast)
            operations = SimpleNamespace(gather_object=self._gather, scatter_object_list=self._scatter)
            patch.setattr(exchange, "torch", SimpleNamespace(distributed=operations))
            running = [pool.submit(one, rank) for rank in range(self.size)]
            errors = [error for one in running if (error := one.exception())]
            first = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
            if errors:
                raise (first or errors)[0]
            return [one.result() for one in running]

    def _exchange(self, value: Any, receivers: range, senders: range) -> list[Any]:
        rank = self._rank.index
        self._slots[rank] = pickle.dumps(value)
        self._wait()
        found = []
        if rank in receivers:
            self.received[rank] += sum(len(self._slots[sender]) for sender in senders if sender != rank)
            found = [pickle.loads(self._slots[sender]) for sender in senders]
        self._wait()
        return found

    def _wait(self) -> None:
        self._turn.release()
        try:
            self._barrier.wait()
        finally:
            self._turn.acquire()

    def _all(self, value: Any) -> list[Any]:
        return self._exchange(value, range(self.size), range(self.size))

    def _gather(self, value: Any, found: list[Any] | None, dst: int) -> None:
        assert (found is not None) == (self._rank.index == dst)
        values = self._exchange(value, range(dst, dst + 1), range(self.size))
        if found is not None:
            found[:] = values

    def _scatter(self, found: list[Any], parcels: list[Any] | None, src: int) -> None:
        assert (parcels is not None) == (self._rank.index == src)
        for receiver in range(self.size):  # one at a time, so that only its own parcel counts
            parcel = parcels[receiver] if parcels else None
            values = self._exchange(parcel, range(receiver, receiver + 1), range(src, src + 1))
            found[:] = values or found

    def _broadcast(self, values: list[Any]) -> None:
        values[:] = self._exchange(values, range(self.size), range(1))[0]
