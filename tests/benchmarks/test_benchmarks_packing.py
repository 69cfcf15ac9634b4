import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import packing
import pytest
from run_files import write_run

ROOT = Path(__file__).parents[2]


def test_rows_have_about_as_many_targets_with_each_packing() -> None:
    blocks = {"joined": 100, "isolated": 100, "none": 260}
    assert packing.rows_per_microbatch(blocks, 4) == {"joined": 4, "isolated": 4, "none": 10}
    assert packing.rows_per_microbatch({"joined": 100, "none": 1}, 1)["none"] == 1


def test_documents_have_their_mean_length_and_a_mark_on_both_sides() -> None:
    stream = packing.short_documents(500, mean=20, vocabulary=50)
    starts = np.flatnonzero(stream.ids == 0)
    assert list(starts[:-1] + 1) == list(stream.offsets)
    assert starts[-1] == len(stream.ids) - 1
    lengths = np.diff(starts) - 1
    assert (lengths.min(), lengths.max()) == (10, 30)
    assert lengths.mean() == pytest.approx(20, abs=1)


def test_all_packings_train_on_the_same_targets() -> None:
    stream = packing.short_documents(100, mean=20, vocabulary=300)
    setting = packing.Setting(["--block-size", "64"], 1, stream)
    assert setting.rows["none"] > setting.rows["joined"] == setting.rows["isolated"] == 1
    for batches in setting.batches.values():
        steps = range(1, batches.steps_per_epoch + 1)
        assert sum(map(batches.targets, steps)) == len(stream.ids) - 1


def test_losses_are_means_over_seeds_and_differences_from_joined(tmp_path: Path) -> None:
    joined = [write_run(tmp_path / f"joined-{i}", {"a": 4.0, "b": 6.0 + i}, targets=500) for i in range(2)]
    isolated = [write_run(tmp_path / f"isolated-{i}", {"a": 3.0 + i, "b": 5.0}, targets=500) for i in range(2)]
    baseline = packing.losses_of(joined, joined)
    assert (baseline["targets"], baseline["documents"]) == (500, 2)
    assert baseline["bits_per_byte"] == pytest.approx(0.525)
    found = packing.losses_of(isolated, joined)
    low, high = found["range_over_seeds"]
    # Without seed 0's advantage of 2 nats, or seed 1's of 2, in 20 bytes.
    assert low == pytest.approx(-2 / 20 / np.log(2))
    assert high == pytest.approx(-2 / 20 / np.log(2))
    assert found["difference"]["bits_per_byte"] == pytest.approx(-2 / 20 / np.log(2))
    lines = packing.table({"losses": {"joined": baseline, "isolated": found, "none": found}}).splitlines()
    assert lines[2] == "| `joined` | 2 | 500 | 0.5250 |  |  |"
    assert lines[3].startswith("| `isolated` | 2 | 500 | 0.4250 | −0.1443 (")


def test_speeds_are_medians_and_their_ratios() -> None:
    found = packing.summarize({"joined": [100.0, 200.0, 900.0], "isolated": [50.0, 300.0, 100.0], "none": [20.0] * 3})
    assert {name: row["ratio"] for name, row in found.items()} == {"joined": 1, "isolated": 0.5, "none": 0.1}
    table = packing.table({"speeds": {"bundled": found}}).splitlines()
    assert table[0] == "| `--packing` | bundled: targets/s (range) |"
    assert table[3] == "| `isolated` | 100 (50–300), 0.50 × |"


@pytest.mark.slow
@pytest.mark.exhaustive  # a minute; the other benchmarks' quick paths take seconds
def test_the_quick_path_measures_everything(tmp_path: Path) -> None:
    output = tmp_path / "packing.json"
    command = [sys.executable, "benchmarks/packing.py", "--quick", "--output", str(output)]
    installed = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=ROOT, env=installed, check=True, capture_output=True, text=True, encoding="utf-8"
    )
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| `joined`", "| `isolated`", "| `none`"]
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["losses"]["joined"]["targets"] == found["losses"]["isolated"]["targets"] > 0
    assert set(found["speeds"]) == {"tiny-gpt2, python-reference", "GPT-2 tiny, short documents"}
