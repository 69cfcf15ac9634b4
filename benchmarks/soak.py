"""Kill runs and damage their files, hundreds of times, and count what became of them: docs/reliability.md.

    python benchmarks/soak.py --kills 200 --damages 200

A run that is killed is started again by the same command, until it ends; then it must have the bytes of a run that
nothing disturbed. A damaged file must be mended, or refused by its name.

Processes fork from one that has imported the libraries (tests/prefork.py), so that most of the time goes into the runs.
The moments, signals, processes, files and bytes are drawn at random, from ``--seed``.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/recipes"), str(ROOT / "benchmarks")]

from damage import DAMAGES, contents, damage, files_of, outcome  # noqa: E402
from prefork import Ended, Prefork, Strike  # noqa: E402
from running import FSDP, QUICK  # noqa: E402

OUTCOMES = ("survived", "refused by name", "lost", "undetected")
FLAGS = [*QUICK, "--strategies", "greedy,top_p", "--sample-every", "4", "--evaluation-tokens", "300"]
MOST_KILLS = 6  # of one run, before it may end


@dataclass(frozen=True)
class Layout:
    """How a run is started.

    Attributes:
        name: as the table shows it.
        processes: number of ranks.
        flags: besides those of all.
        environment: what a launch file would add to it.
    """

    name: str
    processes: int
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


LAYOUTS = (
    Layout("full, 1 process", 1),
    Layout("LoRA, 1 process", 1, ("--method", "lora")),
    Layout("full, 2 processes", 2),
    Layout("LoRA, 2 processes", 2, ("--method", "lora")),
    Layout("full, 4 processes", 4),
    Layout("FSDP2, 2 processes", 2, environment=FSDP),
    Layout("FSDP2, 4 processes", 4, environment=FSDP),
)


class Soak:
    """Runs of one recipe in one directory, since files of a run have its path in them."""

    def __init__(self, python: Prefork, home: Path, seed: int) -> None:
        self._python, self._home = python, home
        self.run_dir, self.cache = home / "run", home / "cache"
        self.random = random.Random(seed)
        self.table: dict[str, Counter[str]] = {}
        words = ("loop", "reads", "each", "block", "once", "and", "loss", "is", "summed", "over", "every", "token")
        texts = (" ".join(self.random.choices(words, k=50)) + f" {number}." for number in range(60))
        self._data = home / "texts.txt"
        self._data.write_text("\n\n".join(texts) + "\n", encoding="utf-8")

    def run(self, layout: Layout, strike: Strike | None = None) -> Ended:
        """Run the layout's command to its end."""
        flags = [*FLAGS, *layout.flags, "--data", self._data, "--run-dir", self.run_dir]
        environment = {"TEXTGEN_CACHE": str(self.cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        return self._python.run(
            [ROOT / "recipes/finetune.py", *flags],
            processes=layout.processes if layout.processes > 1 else None,
            cwd=self._home, env=os.environ | environment | layout.environment, timeout=300, strike=strike,
        )  # fmt: skip

    def undisturbed(self, layout: Layout) -> tuple[dict[str, bytes], float]:
        """What a run that nothing disturbs ends with, and how long it takes, in seconds."""
        self.run(layout)  # fills the cache
        shutil.rmtree(self.run_dir)
        start = time.monotonic()
        ended = self.run(layout)
        assert ended.code == 0, ended.error
        return contents(self.run_dir), time.monotonic() - start

    def count(self, fault: str, outcome: str, trials: int = 1) -> None:
        self.table.setdefault(fault, Counter())[outcome] += trials
        if outcome in ("lost", "undetected"):
            print(f"{fault}: {outcome}", file=sys.stderr, flush=True)

    # ------------------------------------------------------------------------------------------------------- kills

    def kill(self, layout: Layout, kills: int) -> None:
        """Kill runs of a layout, and compare what each ends with."""
        expected, seconds = self.undisturbed(layout)
        done = 0
        while done < kills:
            shutil.rmtree(self.run_dir, ignore_errors=True)
            most = min(MOST_KILLS, kills - done)
            killed = [name for name in self._kill_until_done(layout, most, seconds) if name]
            ended = self.run(layout)  # it may have ended before
            found = "lost" if ended.code else "survived" if contents(self.run_dir) == expected else "undetected"
            for name in killed:
                self.count(f"{layout.name}: {name}", found)
            if ended.code:
                print(f"exit code {ended.code}\n{ended.out}\n{ended.error}", file=sys.stderr, flush=True)
            done += max(1, len(killed))
            print(f"{layout.name}: {done} of {kills} kills", file=sys.stderr, flush=True)

    def _kill_until_done(self, layout: Layout, most: int, seconds: float) -> Iterator[str]:
        """Starts the command until it was killed so often, or ended; yields what it was killed by."""
        for _ in range(most):
            number = self.random.choice([signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
            ranks = [None, *range(layout.processes)] if layout.processes > 1 else [None]
            rank = self.random.choice(ranks)
            # The first start waits for the first step half of the time: what comes before takes most of a short run.
            at = {"file": str(self.run_dir / "metrics.jsonl"), "lines": self.random.randint(1, 5)}
            at = at if self.random.random() < 0.5 else {}
            late = self.random.uniform(0, 0.2 if at else 1.2) * seconds
            ended = self.run(layout, Strike(number, rank=rank, seconds=late, **at))  # type: ignore[arg-type]
            if ended.code == 0:
                return
            yield "killed" if number == signal.SIGKILL else "told to stop"

    # ------------------------------------------------------------------------------------------------------ damage

    def damage(self, damages: int) -> None:
        """Damage files of runs that were killed or are finished, of checkpoints, and of the cache."""
        layout = LAYOUTS[0]
        expected, _ = self.undisturbed(layout)
        finished, killed = self._home / "finished", self._home / "killed"
        shutil.copytree(self.run_dir, finished)
        shutil.rmtree(self.run_dir)
        strike = Strike(signal.SIGKILL, file=str(self.run_dir / "metrics.jsonl"), lines=5)
        assert self.run(layout, strike).code != 0, "the run ended before it was killed"
        shutil.copytree(self.run_dir, killed)
        whole_cache = self._home / "whole-cache"
        shutil.copytree(self.cache, whole_cache)
        situations: dict[str, Callable[[], Path]] = {
            "a file of a killed run": lambda: self._choose(self._put(killed), files_of(self.run_dir)),
            "a file of a finished run": lambda: self._choose(self._put(finished), files_of(self.run_dir)),
            "a file of the newest checkpoint": lambda: self._of_newest_checkpoint(self._put(killed)),
            "a file of the cache": lambda: self._of_cache(whole_cache),
        }
        for number in range(damages):
            situation = list(situations)[number % len(situations)]
            path, kind = situations[situation](), self.random.choice(DAMAGES)
            if not damage(path, kind):
                kind = "deleted"
                path.unlink()
            ended = self.run(layout)
            found = outcome(ended.code, ended.error, path.name, expected, self.run_dir)
            meaning = {"mended": "survived", "refused": "refused by name", "used": "undetected"}
            self.count(f"{situation}: {_described(kind)}", meaning.get(found, "lost"))
            if found not in ("mended", "refused"):
                print(f"{path} {kind}: {found}\n{ended.error}", file=sys.stderr)
            if number % 20 == 19:
                print(f"{number + 1} of {damages} damages", file=sys.stderr, flush=True)

    def _put(self, state: Path) -> Path:
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.copytree(state, self.run_dir)
        return self.run_dir

    def _choose(self, directory: Path, names: Sequence[str]) -> Path:
        return directory / self.random.choice(names)

    def _of_newest_checkpoint(self, run_dir: Path) -> Path:
        newest = max((run_dir / "checkpoints").glob("step-*"))
        return self._choose(newest, sorted(path.name for path in newest.iterdir()))

    def _of_cache(self, whole: Path) -> Path:
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.rmtree(self.cache)
        shutil.copytree(whole, self.cache)
        files = sorted(path for path in self.cache.rglob("*") if path.is_file() and path.suffix != ".lock")
        return self.random.choice(files)

    # ------------------------------------------------------------------------------------------------------- table

    def print_table(self) -> None:
        """Print the counts as a table in Markdown, with a row of sums."""
        total = sum(self.table.values(), Counter())
        print("| fault | trials | " + " | ".join(OUTCOMES) + " |")
        print("| --- " + "| ---: " * (1 + len(OUTCOMES)) + "|")
        for name, counts in [*sorted(self.table.items()), ("**all**", total)]:
            print(f"| {name} | {sum(counts.values())} | " + " | ".join(str(counts[one]) for one in OUTCOMES) + " |")

    def failed(self) -> bool:
        """Whether any run was lost, or any damage undetected."""
        return any(counts["lost"] or counts["undetected"] for counts in self.table.values())


def _described(kind: str) -> str:
    return {"array": "of the wrong type", "string": "of the wrong type", "number": "of the wrong type"}.get(
        kind, {"flipped": "one bit flipped", "digit": "one digit changed"}.get(kind, kind)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="number of kills, over all layouts")
    parser.add_argument("--damages", type=int, default=200, help="number of damaged files")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--layout", default="", help="kill runs of the layouts only whose names contain this")
    options = parser.parse_args()
    start = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as home, Prefork() as python:
        soak = Soak(python, Path(home), options.seed)
        try:
            layouts = [layout for layout in LAYOUTS if options.layout in layout.name]
            for number, layout in enumerate(layouts):
                kills = options.kills // len(layouts) + (number < options.kills % len(layouts))
                if kills:
                    soak.kill(layout, kills)
            if options.damages:
                shutil.rmtree(soak.run_dir, ignore_errors=True)
                soak.damage(options.damages)
        except KeyboardInterrupt:
            print("interrupted: what was counted until then", file=sys.stderr)
        soak.print_table()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"\n{time.monotonic() - start:.0f} s, commit {commit.strip() or 'unknown'}: {' '.join(sys.argv)}")
    return int(soak.failed())


if __name__ == "__main__":
    sys.exit(main())
