"""Draw docs/quickstart.svg, the figure of the README, from a new run of the quickstart.

    python docs/quickstart_svg.py

It takes a minute or two. Another Python version has another language reference, and so gives another picture.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from textgen.reporting.figures.decoding import decoding_scatter

ROOT = Path(__file__).parent.parent
STYLE = "background:#fff;color:#222;font-family:system-ui,sans-serif"  # which the page provides in a report


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, str(ROOT / "recipes/finetune.py"), "--run-dir", "run", "--track", "none"]
        subprocess.run(command, check=True, cwd=scratch)
        decoding = json.loads(Path(scratch, "run/evaluation/decoding.json").read_text(encoding="utf-8"))
    figure = decoding_scatter(decoding)
    assert figure is not None, "the quickstart compares decoding strategies"
    figure = figure.replace("<svg", f'<svg xmlns="http://www.w3.org/2000/svg" style="{STYLE}"', 1)
    (ROOT / "docs/quickstart.svg").write_text(figure + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
