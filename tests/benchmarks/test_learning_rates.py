import json
import sys
from argparse import Namespace
from pathlib import Path

import learning_rates
import pytest
from run_files import write_run

SENTENCES = ("The cat sat on the mat, and the dog sat on the cat.", "It was the best of times, and the worst of times.")
BUNDLED = Path(__file__).parents[2] / "textgen" / "assets" / "tiny-gpt2"


def test_parameters_are_counted_without_loading_the_model() -> None:
    from transformers import AutoModelForCausalLM

    assert learning_rates.count_parameters(BUNDLED) == AutoModelForCausalLM.from_pretrained(BUNDLED).num_parameters()


def test_each_rate_is_compared_with_the_best(tmp_path: Path) -> None:
    losses = {"1e-4": {"a": 4.0, "b": 6.0}, "2e-4": {"a": 3.0, "b": 5.0}, "1e-3": {"a": 9.0, "b": 9.0}}
    directories = {rate: write_run(tmp_path / rate, nll) for rate, nll in losses.items()}
    found = learning_rates.rows("full", directories, chosen=1.1e-4)
    assert [row["learning_rate"] for row in found] == [1e-4, 2e-4, 1e-3]
    assert [row["auto"] for row in found] == [True, False, False]
    assert found[1]["behind_best"] is None
    assert 0 < found[0]["behind_best"]["bits_per_byte"] < found[2]["behind_best"]["bits_per_byte"]
    lines = learning_rates.table(found).splitlines()
    assert lines[2].startswith(
        "| full | 1e-4 (auto) | 10.000 | 0.500 (0.400–0.600) | −9.500 (−9.600 to −9.400) | +0.144"
    )
    assert lines[3].endswith("| best |")


def test_a_run_has_the_flags_of_its_method_and_rate() -> None:
    options = Namespace(data="a.txt", block_size=64, steps=9, seed=1, warmup_steps=2, precision="bf16")
    found = " ".join(learning_rates.flags(Path("model"), "lora", "5e-4", options))
    assert "--model model --data a.txt --method lora --learning-rate 5e-4" in found
    assert found.endswith("--block-size 64 --steps 9 --seed 1 --warmup-steps 2 --precision bf16")


def test_a_model_that_was_converted_before_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was downloaded")

    monkeypatch.setattr(learning_rates.subprocess, "run", refuse)
    (tmp_path / "model").mkdir()
    assert learning_rates.smollm2(tmp_path) == tmp_path / "model"


def test_data_that_does_not_exist_is_refused_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["learning_rates.py", "--data", "missing.txt"])
    with pytest.raises(SystemExit):
        learning_rates.main()
    assert "--data missing.txt: no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_comes_from_runs_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "text.txt"
    data.write_text("\n\n".join(f"{i} {s}" for i in range(80) for s in SENTENCES), encoding="utf-8")
    command = ["learning_rates.py", "--data", str(data), "--model", str(BUNDLED), "--methods", "full", "--steps", "2"]
    command += ["--rates", "1e-5", "1e-3", "--warmup-steps", "0", "--block-size", "32", "--jobs", "1"]
    command += ["--directory", str(tmp_path / "runs"), "--output", str(tmp_path / "rates.json")]
    monkeypatch.setattr(sys, "argv", command)
    learning_rates.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["1e-5", "1e-3 (auto)"]
    assert lines[3].endswith("| best |")
    found = json.loads((tmp_path / "rates.json").read_text(encoding="utf-8"))
    assert found[1]["after"]["bits_per_byte"] < found[1]["before"]["bits_per_byte"]
    assert found[0]["behind_best"]["bits_per_byte"] > 0
