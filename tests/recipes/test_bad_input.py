"""Every bad input of the table: exit code 2, one message without a traceback, and nothing else changed."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from bad_input import TABLE, Bad
from running import LIGHT, QUICK, ROOT, tree

from textgen.model.locate import BUNDLED_MODELS


def prepare(bad: Bad, here: Path) -> None:
    """Write the files of a case."""
    if bad.model:
        shutil.copytree(BUNDLED_MODELS["tiny-gpt2"], here / "m")
    for name, content in bad.files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink(missing_ok=True)
        elif isinstance(content, dict):
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            path.write_text(json.dumps(known | content), encoding="utf-8")
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_the_table_is_as_large_as_promised() -> None:
    assert len(TABLE) >= 170
    assert len({(bad.flags, str(bad.files), str(bad.environment)) for bad in TABLE}) == len(TABLE)


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: f"{bad.flags} {' '.join(bad.environment)} {bad.says}"[:70])
def test_it_ends_with_one_message(bad, python, plain, text_file, tmp_path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    prepare(bad, here)
    flags = shlex.split(bad.flags.replace("{here}", str(here)).replace("{run}", str(tmp_path / "finished")))
    if "{run}" in bad.flags:
        shutil.copytree(plain, tmp_path / "finished")
        flags = ["--data", str(text_file), *flags]
    before = tree(tmp_path)
    light = QUICK if {"--strategies", "--judge", "--prompt-tokens"} & set(flags) else LIGHT
    own = [*light, "--run-dir", str(tmp_path / "run")]
    if bad.recipe == "evaluate":
        own = ["--output-dir", str(tmp_path / "run"), "--skip-decoding", "--wandb-mode", "disabled"]
    dry = ["--dry-run"] if bad.dry else []
    variables = {"TEXTGEN_CACHE": os.environ["TEXTGEN_CACHE"], "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment = os.environ | variables | {k: v for k, v in bad.environment.items() if v is not None}
    ran = python.run([ROOT / f"recipes/{bad.recipe}.py", *own, *dry, *flags], cwd=here, env=environment, timeout=60)
    assert ran.code == 2, ran.out + ran.error
    assert "Traceback" not in ran.out + ran.error
    message = " ".join(ran.error[max(0, ran.error.rfind("error: ")) :].replace("│", " ").split())
    position = 0
    for part in bad.says.split(" … "):
        assert part in message[position:], message
        position += message[position:].index(part)
    assert len(message) < 2500, "a message is to be read"
    after = tree(tmp_path)
    assert {name: after.get(name) for name in before} == before, "earlier work is untouched"
    assert set(after) - set(before) <= {"run/status.json", "here/new/status.json"}
