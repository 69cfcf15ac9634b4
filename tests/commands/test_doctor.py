"""``textgen doctor``: what it prints and returns; each check has tests of its own in checkup/."""

import subprocess
import sys
from pathlib import Path

import pytest

from textgen.commands import doctor
from textgen.commands.checkup.finding import Finding
from textgen.commands.doctor import CHECKS, CheckupConfig, DoctorConfig, examine, lines, main
from textgen.errors import UserError

ROOT = Path(__file__).parents[2]


def test_every_subject_can_be_examined_alone_or_left_out():
    assert CheckupConfig().subjects() == [*CHECKS]
    assert CheckupConfig(only=("wandb", "python")).subjects() == ["python", "wandb"]
    assert CheckupConfig(skip=("python",)).subjects() == [name for name in CHECKS if name != "python"]
    with pytest.raises(UserError, match="--skip python: nothing is left to check"):
        main(DoctorConfig(CheckupConfig(only=("python",), skip=("python",))))


def test_a_fault_is_printed_with_its_remedy_and_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda subject: [Finding("fault", f"{subject} is broken", "Mend it.")])
    with pytest.raises(UserError, match="2 faults: see above"):
        main(DoctorConfig(CheckupConfig(only=("python", "hub"))))
    assert capsys.readouterr().out.splitlines() == [
        "FAULT  python        python is broken",
        "                     → Mend it.",
        "FAULT  hub           hub is broken",
        "                     → Mend it.",
    ]


def test_notes_are_no_errors(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda subject: [Finding("note", "slow", "Hurry.")])
    main(DoctorConfig(CheckupConfig(only=("threads",))))
    assert capsys.readouterr().out.endswith("textgen can run here.\n")


def test_long_texts_are_wrapped_below_each_other():
    printed = lines("packages", [Finding("note", "word " * 60, "more " * 60)]).splitlines()
    assert max(map(len, printed)) <= 100
    assert sum(" → " in line for line in printed) == 1
    assert all(line.startswith(" " * 21) for line in printed[1:])


def test_a_check_that_cannot_be_carried_out_is_a_fault(monkeypatch):
    monkeypatch.setitem(CHECKS, "hub", ("no_such_module", "check"))
    [finding] = examine("hub")
    assert finding.state == "fault"
    assert "no_such_module" in finding.text
    monkeypatch.setenv("TEXTGEN_ALLOCATOR", "/no/such/library")
    [finding] = examine("allocator")
    assert finding.state == "fault"
    assert "TEXTGEN_ALLOCATOR /no/such/library: there is no such file" in finding.mend


@pytest.mark.slow
def test_this_machine_can_run_textgen(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "textgen", "doctor"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for subject in CHECKS:
        assert f"  {subject} " in done.stdout
    assert "2 processes exchange numbers with gloo" in done.stdout
