"""Print the tests of what has changed since the main branch: for `make check`.

A file has changed if it differs from where this branch left origin/main (or main), or is not tracked yet. A package's
tests are the folder of tests/ that mirrors it. On the main branch itself, with nothing changed, the last commit's files
count.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALWAYS = ["tests/docs/test_rooms.py", "tests/test_config.py"]


def git(*words: str) -> list[str]:
    """Lines of a git command's output; none if it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def changed() -> list[str]:
    """Files that have changed, relative to the root."""
    base = (git("merge-base", "HEAD", "origin/main") or git("merge-base", "HEAD", "main") or ["HEAD"])[0]
    found = git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")
    return found or git("diff", "--name-only", "HEAD~1")


def tests_of(path: str) -> str | None:
    """The test file or folder for a changed file; None if nothing there is tested."""
    parts = Path(path).parts
    if parts[0] == "tests":
        return path if Path(path).name.startswith("test_") else "/".join(parts[:-1]) if len(parts) > 2 else None
    if parts[0] in ("recipes", "benchmarks"):
        return f"tests/{parts[0]}"
    if parts[0] == "docs" or path.endswith(".md"):
        return "tests/docs"
    if parts[0] != "textgen":
        return None
    mirror = Path("tests", *parts[1:])
    module = mirror.with_name(f"test_{mirror.name}")
    return str(module if (ROOT / module).exists() else mirror.parent)


def main() -> None:
    found = dict.fromkeys([*filter(None, map(tests_of, changed())), *ALWAYS])
    there = [path for path in found if (ROOT / path).exists() and path != "tests"]
    # A folder stands for everything in it.
    print(*(path for path in there if not any(path.startswith(f"{other}/") for other in there)))


if __name__ == "__main__":
    main()
