"""Check that this machine is ready: versions, devices, processes, trackers, hub, disks; with a remedy for each fault.

It exits with 2 if something would make runs fail. Notes are about what works, but slower, or without a network.
"""

import importlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from textgen.commands.checkup.finding import Finding, State
from textgen.errors import UserError, first_line
from textgen.run.main import run_script

Subject = Literal[
    "python", "packages", "devices", "quantization", "threads", "allocator", "processes", "wandb", "hub", "places"
]

# What is checked → the module and the function that do it, imported when they are called.
CHECKS: dict[Subject, tuple[str, str]] = {
    "python": ("software", "check_python"),
    "packages": ("software", "check_packages"),
    "devices": ("hardware", "check_devices"),
    "quantization": ("hardware", "check_quantization"),
    "threads": ("hardware", "check_threads"),
    "allocator": ("hardware", "check_allocator"),
    "processes": ("connections", "check_processes"),
    "wandb": ("connections", "check_wandb"),
    "hub": ("connections", "check_hub"),
    "places": ("places", "check_places"),
}

_SIGNS: dict[State, str] = {"ok": "ok", "note": "note", "fault": "FAULT"}
_WIDTH = 100


@dataclass(frozen=True)
class CheckupConfig:
    """What is checked."""

    only: tuple[Subject, ...] = ()
    """Check these only."""
    skip: tuple[Subject, ...] = ()
    """Do not check these; for example `--skip wandb hub` without a network."""

    def subjects(self) -> list[Subject]:
        """What to check, in the order of :data:`CHECKS`."""
        return [name for name in CHECKS if name in (self.only or CHECKS) and name not in self.skip]


@dataclass(frozen=True)
class DoctorConfig:
    checkup: CheckupConfig = field(default_factory=CheckupConfig)


def main(config: DoctorConfig) -> None:
    subjects = config.checkup.subjects()
    if not subjects:
        raise UserError(f"--skip {' '.join(config.checkup.skip)}: nothing is left to check. Name fewer.")
    faults = 0
    for subject in subjects:
        findings = examine(subject)
        print(lines(subject, findings), flush=True)
        faults += sum(finding.state == "fault" for finding in findings)
    if faults:
        raise UserError(f"{faults} {'fault' if faults == 1 else 'faults'}: see above for what to do.")
    print("textgen can run here.")


def examine(subject: Subject) -> list[Finding]:
    """Check one subject; a check that cannot be carried out, such as for want of a package, is a fault."""
    module, function = CHECKS[subject]
    try:
        found: list[Finding] = getattr(importlib.import_module(f"textgen.commands.checkup.{module}"), function)()
    except UserError as error:
        return [Finding("fault", "cannot be used", str(error))]
    except Exception as error:
        return [Finding("fault", f"{type(error).__name__}: {first_line(error)}", "pip install -c constraints.txt -e .")]
    return found


def lines(subject: str, findings: Sequence[Finding]) -> str:
    """Findings as they are printed: state, subject, text, and below it what to do."""
    printed = []
    for finding in findings:
        start = f"{_SIGNS[finding.state]:5}  {subject:12}  "
        for text in (finding.text, finding.mend):
            if text:
                indented = " " * len(start)
                wrapped = textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=indented)
                printed += wrapped
                start = f"{indented}→ "
    return "\n".join(printed)


def run() -> None:
    """Parse the command line, check, and exit with the documented code."""
    run_script(DoctorConfig, main, description=__doc__ or "")
