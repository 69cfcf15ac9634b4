import signal
from collections import Counter
from pathlib import Path

import pytest
import soak
from prefork import Prefork


@pytest.mark.slow
def test_runs_survive_what_is_done_to_them(python: Prefork, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = soak.Soak(python, tmp_path, seed=1)
    sample.kill(soak.LAYOUTS[0], kills=2)
    sample.damage(damages=4)
    trials = sum(map(sum, (counts.values() for counts in sample.table.values())))
    assert trials in (5, 6), "the run may end before it is killed a second time"
    assert not sample.failed(), sample.table
    sample.print_table()
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"| **all** | {trials} |")


def test_a_loss_or_a_damage_that_was_not_noticed_is_a_failure(python: Prefork, tmp_path: Path) -> None:
    for outcome, fails in (("survived", False), ("refused by name", False), ("lost", True), ("undetected", True)):
        sample = soak.Soak(python, tmp_path, seed=1)
        sample.count("a fault", outcome)
        assert sample.table == {"a fault": Counter({outcome: 1})}
        assert sample.failed() == fails


def test_a_run_that_computes_something_else_is_not_taken_for_one_that_survived(tmp_path, monkeypatch) -> None:
    sample = soak.Soak(Prefork(), tmp_path, seed=1)
    monkeypatch.setattr(soak, "contents", lambda run_dir: {})
    monkeypatch.setattr(sample, "undisturbed", lambda layout: ({"metrics.jsonl": b"{}"}, 1.0))
    ended = iter([-signal.SIGKILL, 0, 0])
    monkeypatch.setattr(sample, "run", lambda layout, strike=None: soak.Ended(next(ended), "", ""))
    sample.kill(soak.LAYOUTS[0], kills=1)
    assert sample.failed()
