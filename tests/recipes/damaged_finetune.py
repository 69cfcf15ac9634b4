"""recipes/finetune.py with an accident: killed before step 6, or with a file damaged just before the end.

    ACCIDENT=kill python damaged_finetune.py …
    ACCIDENT=cut:metrics.jsonl python damaged_finetune.py … --run-dir …

Without the variable, there is none. Figures are not drawn, since that takes as long as all the rest.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

from running import ROOT

sys.path.append(str(ROOT / "benchmarks"))


def main() -> None:
    import damage

    from textgen.background import finish_background_work
    from textgen.reporting.figures import svg
    from textgen.reporting.run_log import RunLog
    from textgen.training import step as step_module

    accident = os.environ.get("ACCIDENT")
    svg.as_svg = lambda figure, name, title: "<svg></svg>"
    training_step, write_difference = step_module.training_step, RunLog.write_difference

    def end_at_step_6(*arguments: Any, step: int, **others: Any) -> Any:
        if step == 6:
            finish_background_work()  # otherwise it is a matter of time which checkpoints are left
            os._exit(9)
        return training_step(*arguments, step=step, **others)

    def damage_and_write(self: RunLog, *arguments: Any, **others: Any) -> None:
        assert accident
        kind, name = accident.split(":")
        assert damage.damage(Path(self.directory.path) / name, kind)
        write_difference(self, *arguments, **others)

    if accident == "kill":
        step_module.training_step = end_at_step_6
    elif accident:
        RunLog.write_difference = damage_and_write  # type: ignore[method-assign]
    runpy.run_path(str(ROOT / "recipes/finetune.py"), run_name="__main__")


if __name__ == "__main__":
    main()
