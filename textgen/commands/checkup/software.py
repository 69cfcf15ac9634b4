"""The versions of Python and of the packages, beside those that textgen needs and those that it was tested with."""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from textgen.commands.checkup.finding import Finding

OLDEST_PYTHON = (3, 11)
_TESTED = Path(__file__).parents[3] / "constraints.txt"  # of a clone; an installed package has none
_NAMED = ("torch", "transformers", "accelerate", "peft")  # whose versions people ask for


def check_python() -> list[Finding]:
    """Whether this Python is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        return [Finding("fault", f"Python {found}", f"Install Python {needed} or newer, and make a new environment.")]
    return [Finding("ok", f"Python {found}, {sys.prefix}")]


def check_packages() -> list[Finding]:
    """The installed packages: at least as new as needed, and equal to the tested ones."""
    needed = [Requirement(text) for text in requires("textgen") or []]
    return compare_packages(needed, constrained_versions(_TESTED), installed_versions(needed))


def installed_versions(needed: list[Requirement]) -> dict[str, str]:
    """The versions of packages that are installed, by their names."""
    found: dict[str, str] = {}
    for requirement in needed:
        try:
            found[canonicalize_name(requirement.name)] = version(requirement.name)
        except PackageNotFoundError:
            continue
    return found


def constrained_versions(constraints: Path) -> dict[str, str]:
    """The versions in a file of constraints, ``name==version`` a line; empty if there is no file."""
    if not constraints.is_file():
        return {}
    lines = (line.split("#")[0].strip() for line in constraints.read_text(encoding="utf-8").splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {str(canonicalize_name(name)): number for name, number in pairs}


def compare_packages(
    needed: list[Requirement], tested: Mapping[str, str], installed: Mapping[str, str]
) -> list[Finding]:
    """What is missing, too old, or another version than the tested one.

    Args:
        needed: what textgen requires; those of extras that are not installed are skipped.
        tested: versions by canonical names.
        installed: versions by canonical names.
    """
    findings, others = [], []
    for requirement in needed:
        name = canonicalize_name(requirement.name)
        is_extra = "extra ==" in str(requirement.marker or "")
        applies = requirement.marker is None or is_extra or requirement.marker.evaluate()
        if not applies or (is_extra and name not in installed):
            continue
        if name not in installed:
            findings.append(Finding("fault", f"{name} is not installed", f'pip install "{_bare(requirement)}"'))
        elif not requirement.specifier.contains(_public(installed[name]), prereleases=True):
            text = f"{name} {installed[name]} is too old ({requirement.specifier} is needed)"
            findings.append(Finding("fault", text, f'pip install "{_bare(requirement)}"'))
        elif name in tested and _public(installed[name]) != tested[name]:
            others.append(f"{name} {installed[name]} (tested: {tested[name]})")
    if others:
        mend = "pip install -c constraints.txt -e . installs the tested versions."
        findings.append(Finding("note", ", ".join(sorted(set(others))), mend))
    if not findings:
        as_tested = "all as tested" if tested else "as new as needed"
        findings.append(Finding("ok", f"{as_tested}: {', '.join(f'{n} {installed[n]}' for n in _NAMED)}"))
    return findings


def _bare(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


def _public(number: str) -> str:
    """A version without its local part: that of torch names the device, as in 2.13.0+cpu."""
    return number.split("+")[0]
