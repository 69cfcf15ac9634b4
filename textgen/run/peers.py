"""What the processes of a run tell each other besides their results: that they live, are to stop, or failed.

Each has a thread that writes a counter to the launcher's key-value store every second, reads the counter of the next
process, and reads the news. So all of them end, naming the process at fault, although their main threads may be waiting
for it:

- a process that was told to stop, or failed, says so, and the others know within :data:`BEAT_SECONDS`;
- one that died leaves its connections broken, and whoever was talking to it asks :meth:`Peers.lost`;
- one that hangs as a whole, or fell off the network, is found after a minute (:data:`VARIABLE`);
- one that is cut off from the store itself ends after the same time.

One whose main thread alone hangs is found by the timeout of torch.distributed's collectives: half an hour.
"""

import contextlib
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from textgen.errors import UserError

BEAT_SECONDS = 1.0
SILENT_SECONDS = 60.0
"""After this time without a sign of life, a process is taken for lost, unless :data:`VARIABLE` sets another one."""
VARIABLE = "TEXTGEN_RANK_TIMEOUT"
_LEAST_SECONDS = 5.0  # below, a process that is merely busy would be taken for lost
_ANSWER_SECONDS = 3.0  # that the store gets to answer a process that ends; without its host it may never do
_LOST_SECONDS = 5.0  # the same when a process is already suspected, as its connections broke

_ADVICE = ". All processes end; run the same command again to go on from the last checkpoint."

STOP, FAILED = "stop", "failed"


@dataclass(frozen=True)
class News:
    """What one process tells all others; the first news of a run counts.

    Attributes:
        kind: :data:`STOP` or :data:`FAILED`.
        rank: the process that it is about.
        message: the reason to stop, or what failed.
        exit_code: with what the processes end.
        reported: whether that process itself tells the user.
    """

    kind: str
    rank: int
    message: str
    exit_code: int
    reported: bool = False


def silent_seconds(environment: Mapping[str, str] = os.environ) -> float:
    """The time without a sign of life after which a process is taken for lost.

    Raises:
        UserError: :data:`VARIABLE` is not a number of seconds.
    """
    given = environment.get(VARIABLE) or str(SILENT_SECONDS)
    try:
        seconds = float(given)
        if math.isfinite(seconds) and seconds >= _LEAST_SECONDS:
            return seconds
    except ValueError:
        pass
    raise UserError(f"{VARIABLE} {given}: must be a number of seconds, at least {_LEAST_SECONDS:.0f}.")


def process_name() -> str:
    """How messages call this process."""
    return f"{socket.gethostname()}, process {os.getpid()}"


class Peers:
    """This process among all of a run.

    Args:
        store: a key-value store like torch.distributed's, with a connection of its own.
        rank: index of this process.
        world_size: number of processes.
        session: name of this run of the program, the same in all its processes and in no other.
        main_name: the :func:`process_name` of the main process.
        silent_seconds: after this time without a sign of life, a process is taken for lost.
        on_news: called with the first news, in another thread than the main one, unless it came from this process.
    """

    def __init__(
        self,
        store: Any,
        *,
        rank: int,
        world_size: int,
        session: str,
        main_name: str,
        silent_seconds: float,
        on_news: Callable[[News], None],
    ) -> None:
        self.rank, self.world_size, self._silent_seconds = rank, world_size, silent_seconds
        self._store, self._session, self._main_name, self._on_news = store, session, main_name, on_news
        self._ended, self._gone = threading.Event(), threading.Event()  # this process; the store
        self._answered = time.monotonic()  # when the store last did
        self._beat = 0

    def start(self) -> None:
        """Show that this process lives, and watch the others, until :meth:`leave`."""
        self._set(f"name/{self.rank}", process_name())
        for work in (self._watch, self._watch_store):
            threading.Thread(target=work, name="peers", daemon=True).start()

    def is_main(self, status: Mapping[str, Any]) -> bool:
        """Whether the main process wrote this ``status.json``."""
        return self._main_name == f"{status.get('host')}, process {status.get('process_id')}"

    def leave(self) -> None:
        """This process ends as it should: nobody is to miss it."""
        if not self._ended.is_set():
            self._ended.set()
            self._try(lambda: self._set(f"left/{self.rank}", "1"))

    def tell(self, news: News) -> News:
        """Tell all other processes; returns the first news of the run, which may be another's."""

        def first() -> News:
            written = self._store.compare_set(self._key("news"), "", json.dumps(asdict(news)))
            return News(**json.loads(written))

        return self._try(first) or news

    def first_news(self) -> News | None:
        """The first news of the run, if there is any and the store answers."""
        return self._try(self._news)

    def _news(self) -> News | None:
        """The first news of the run, if there is any. Raises whatever the store does if it does not answer."""
        text = self._get("news")
        return News(**json.loads(text)) if text else None

    def has_left(self, rank: int) -> bool:
        """Whether a process ended as it should, as far as one can tell."""
        return bool(self._try(lambda: self._get(f"left/{rank}"))) or self._gone.is_set()

    def store_gone(self) -> str | None:
        """What to tell the user if the store does not answer; it may just have ended with the process that hosts it."""
        self._try(lambda: self._get("news"))
        return f"{self._place()} no longer answers{_ADVICE}" if self._gone.is_set() else None

    def lost(self, ranks: Iterable[int] | None = None) -> str | None:
        """Which of some processes died, if any did; by default, of all. Takes up to five seconds.

        Returns:
            What to tell the user, such as "rank 3 (host, process 123) ended without a word".
        """
        suspects = [rank for rank in (range(self.world_size) if ranks is None else ranks) if rank != self.rank]
        deadline = time.monotonic() + _LOST_SECONDS
        before = self._try(lambda: [self._get(f"beat/{rank}") for rank in suspects])

        def silent() -> list[int]:
            return [
                r
                for r, beat in zip(suspects, before, strict=True)
                if beat == self._get(f"beat/{r}") and not self._get(f"left/{r}")
            ]

        while before is not None:
            time.sleep(BEAT_SECONDS / 4)
            now = self._try(silent)
            if not now:
                return None
            if time.monotonic() > deadline:
                return f"{self._names(now)} ended without a word{_ADVICE}"
        return None

    def _watch(self) -> None:
        following = (self.rank + 1) % self.world_size
        seen, since = None, time.monotonic()
        while not self._ended.is_set():
            try:
                self._beat += 1
                self._set(f"beat/{self.rank}", str(self._beat))
                if news := self._news():
                    if news.rank != self.rank:
                        self._on_news(news)
                    return self._only_beat()
                now, left = self._get(f"beat/{following}"), self._get(f"left/{following}")
                self._answered = time.monotonic()
            except Exception:  # the store is gone: the other thread waits whether it stays so
                self._ended.wait(BEAT_SECONDS)
                continue
            if now != seen or left:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > self._silent_seconds:
                message = f"{self._names([following])} has not been heard of for {self._silent_seconds:.0f} s{_ADVICE}"
                self._on_news(self.tell(News(FAILED, following, message, 1)))
                return None
            self._ended.wait(BEAT_SECONDS)
        return None

    def _only_beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._beat += 1
            self._try(lambda: self._set(f"beat/{self.rank}", str(self._beat)))
            self._answered = time.monotonic()

    def _watch_store(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            if time.monotonic() - self._answered > self._silent_seconds + 2 * BEAT_SECONDS:
                message = f"{self._place()} has not answered for {self._silent_seconds:.0f} s{_ADVICE}"
                self._on_news(News(FAILED, 0, message, 1))
                return

    def _names(self, ranks: Sequence[int]) -> str:
        names = [f"rank {rank} ({self._name(rank)})" for rank in ranks[:5]]
        return ", ".join(names) + (f" and {len(ranks) - 5} more" if len(ranks) > 5 else "")

    def _name(self, rank: int) -> str:
        return self._try(lambda: self._get(f"name/{rank}")) or "unknown"

    def _place(self) -> str:
        address = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        return f"the machine of rank 0 ({address}), through which the processes find each other,"

    def _key(self, name: str) -> str:
        return f"textgen/{self._session}/{name}"

    def _set(self, name: str, value: str) -> None:
        self._store.set(self._key(name), value)

    def _get(self, name: str) -> str | None:
        """A value, or None if there is none yet."""
        key = self._key(name)
        return self._store.get(key).decode() if self._store.check([key]) else None

    def _try(self, ask: Callable[[], Any]) -> Any:
        """What the store answers; None if it does not, within seconds: then this process is on its own."""
        answers: list[Any] = []

        def get() -> None:
            with contextlib.suppress(Exception):
                answers.append(ask())

        if not self._gone.is_set():
            thread = threading.Thread(target=get, daemon=True)
            thread.start()
            thread.join(_ANSWER_SECONDS)
            if not answers:
                self._gone.set()
        return answers[0] if answers else None
