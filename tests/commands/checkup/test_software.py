"""Versions beside those that are needed, and those that were tested."""

import sys
from pathlib import Path

from packaging.requirements import Requirement

from textgen.commands.checkup import software
from textgen.commands.checkup.finding import Finding
from textgen.commands.checkup.software import check_packages, check_python, compare_packages, constrained_versions

NEEDED = [Requirement(text) for text in ("torch>=2.13", "transformers>=5", "accelerate", "peft", 'x; extra == "y"')]
INSTALLED = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "accelerate": "1.15", "peft": "0.21"}
TESTED = {"torch": "2.13.0", "transformers": "5.23.0"}


def test_this_python_is_new_enough_and_an_old_one_is_not(monkeypatch):
    assert [finding.state for finding in check_python()] == ["ok"]
    monkeypatch.setattr(software, "OLDEST_PYTHON", (sys.version_info[0], sys.version_info[1] + 1))
    [finding] = check_python()
    assert (finding.state, "Install Python 3." in finding.mend) == ("fault", True)


def test_the_constrained_versions_are_fine():
    [finding] = compare_packages(NEEDED, TESTED, INSTALLED)
    assert finding == Finding("ok", "all as tested: torch 2.13.0+cpu, transformers 5.23.0, accelerate 1.15, peft 0.21")
    [finding] = compare_packages(NEEDED, {}, INSTALLED)
    assert finding.text.startswith("as new as needed: ")


def test_what_is_missing_or_too_old_is_a_fault_with_the_command_that_mends_it():
    installed = INSTALLED | {"torch": "2.4.0"}
    del installed["accelerate"]
    findings = compare_packages(NEEDED, TESTED, installed)
    assert [finding.state for finding in findings] == ["fault", "fault"]
    assert findings[0].mend == 'pip install "torch>=2.13"'
    assert findings[1] == Finding("fault", "accelerate is not installed", 'pip install "accelerate"')


def test_a_newer_version_than_the_tested_one_is_a_note():
    [finding] = compare_packages(NEEDED, TESTED, INSTALLED | {"transformers": "5.99.0"})
    assert (finding.state, finding.text) == ("note", "transformers 5.99.0 (tested: 5.23.0)")


def test_a_package_that_another_system_needs_is_not_missed():
    assert (
        compare_packages([Requirement('x>1; platform_system == "Plan9"'), *NEEDED], TESTED, INSTALLED)[0].state == "ok"
    )


def test_constrained_versions_are_read_from_the_constraints(tmp_path):
    (tmp_path / "c.txt").write_text("# the tested ones\nAbsl_Py==2.5.1\nx==1  # why\n\n")
    assert constrained_versions(tmp_path / "c.txt") == {"absl-py": "2.5.1", "x": "1"}
    assert constrained_versions(tmp_path / "none.txt") == {}
    assert constrained_versions(Path(software._TESTED))["torch"]


def test_the_packages_of_this_environment_are_found():
    assert "fault" not in [finding.state for finding in check_packages()]
