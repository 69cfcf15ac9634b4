"""Processes learn of one another, through a real store: that they live, were told to stop, failed, hang or died."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist

from textgen.errors import UserError
from textgen.run import peers as module
from textgen.run.peers import FAILED, STOP, News, Peers, silent_seconds


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(module, "_LOST_SECONDS", 0.5)
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 1.0)


class Group:
    """Some processes' peers, all in this process, and the news that each of them got."""

    def __init__(self, size: int, *, silent_seconds: float = 1.0) -> None:
        self.server: Any = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.news: list[list[News]] = [[] for _ in range(size)]
        self.peers = [
            Peers(
                self._client(), rank=rank, world_size=size, session="one", main_name="", silent_seconds=silent_seconds,
                on_news=self.news[rank].append,
            )
            for rank in range(size)
        ]  # fmt: skip
        for peers in self.peers:
            peers.start()

    def _client(self) -> Any:
        timeout = timedelta(seconds=1)
        return dist.TCPStore("127.0.0.1", self.server.port, is_master=False, timeout=timeout, wait_for_workers=False)

    def die(self, rank: int) -> None:
        """As if the process was killed or stopped: it shows no life any more, without a word."""
        self.peers[rank]._ended.set()


@pytest.fixture
def group() -> Iterator[Callable[..., Group]]:
    made: list[Group] = []

    def make(size: int, **settings: float) -> Group:
        made.append(Group(size, **settings))
        return made[-1]

    yield make
    for one in made:
        for peers in one.peers:
            peers.leave()


def test_all_others_learn_what_one_tells_and_the_first_counts(group):
    three = group(3)
    news = News(STOP, 1, "SIGTERM", 75)
    assert three.peers[1].tell(news) == news
    assert three.peers[2].tell(News(FAILED, 2, "late", 1)) == news
    _wait(lambda: three.news[0] and three.news[2])
    assert three.news == [[news], [], [news]]
    assert three.peers[0].first_news() == news


def test_nobody_is_missed_who_lives_or_left(group):
    two = group(2, silent_seconds=0.3)
    time.sleep(0.6)
    assert two.peers[0].lost() is None
    assert not two.peers[0].has_left(1)
    two.peers[1].leave()
    assert two.peers[0].has_left(1)
    time.sleep(0.6)
    assert two.peers[0].lost() is None
    assert two.news == [[], []]


def test_one_that_died_is_named_when_asked_for(group):
    three = group(3, silent_seconds=60.0)
    _wait(lambda: three.peers[0].lost() is None)
    three.die(2)
    time.sleep(0.1)
    lost = three.peers[0].lost()
    assert lost is not None
    assert lost.startswith("rank 2 (")
    assert "process" in lost
    assert " ended without a word. All processes end; run the same command again" in lost
    assert three.peers[0].lost([1]) is None


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_one_that_shows_no_life_is_found_by_the_others_and_named_to_all(group, dead):
    three = group(3)
    three.die(dead)
    alive = [rank for rank in range(3) if rank != dead]
    _wait(lambda: all(three.news[rank] for rank in alive))
    for rank in alive:
        (news,) = three.news[rank]
        assert (news.kind, news.rank, news.exit_code) == (FAILED, dead, 1)
        assert news.message.startswith(f"rank {dead} (")
        assert "has not been heard of for 1 s" in news.message


def test_without_the_store_a_process_is_on_its_own_and_ends_in_bounded_time(group, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    two = group(2)
    assert two.peers[1].store_gone() is None
    two.server = None
    start = time.monotonic()
    assert two.peers[1].tell(News(STOP, 1, "SIGTERM", 75)) == News(STOP, 1, "SIGTERM", 75)
    assert two.peers[1].has_left(0)
    assert two.peers[1].lost() is None
    gone = two.peers[1].store_gone()
    assert gone is not None
    assert "the machine of rank 0 (10.0.0.1:29500), through which the processes find each other, no longer" in gone
    assert time.monotonic() - start < 5
    _wait(lambda: bool(two.news[0]))
    assert "has not answered for 1 s" in two.news[0][0].message


def test_the_time_to_wait_can_be_set(monkeypatch):
    assert silent_seconds({}) == 60.0
    assert silent_seconds({"TEXTGEN_RANK_TIMEOUT": "300"}) == 300.0
    for wrong in ("soon", "0", "-1", "inf", "nan"):
        with pytest.raises(UserError, match=f"TEXTGEN_RANK_TIMEOUT {wrong}: must be a number of seconds, at least 5"):
            silent_seconds({"TEXTGEN_RANK_TIMEOUT": wrong})


def _wait(until: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)
