"""The panel of a training run, on a real terminal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from on_terminal import lines_left, plain, run_on_terminal

from textgen.progress import ON_SCREEN
from textgen.reporting.live_panel import LivePanel, sparkline

START = """
import os, time
from textgen.reporting.live_panel import LivePanel
panel = LivePanel.start(40)
for step in range(1, 41):
    panel.add_step(step, 5.0 - step / 20)
row = {"step": 40, "train/learning_rate": 3e-4, "train/grad_norm": 0.81, "eval/loss": 3.5, "eval/bits_per_byte": 1.25}
panel.log(row, speed=5120.0, left=83.0, memory=2_500_000_000)
panel.show_sample([{"strategy": "top_p", "text": "once upon\\na \\x1b[31mtime " + 30 * "and on "}])
print("a line", flush=True)
"""


@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(1, 40))
def test_a_curve_is_as_long_as_asked_and_reaches_both_ends(values, width):
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set("▁▂▃▄▅▆▇█")
    assert not line or "▁" in line


def test_a_curve_falls_where_the_loss_falls():
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert sparkline([3, 1, 2, 0], 2) == "█▁"
    assert sparkline([2, 2], 5) == "▁▁"


@pytest.mark.parametrize("columns", [80, 200])
def test_the_panel_fits_the_terminal_and_is_gone_at_the_end(columns):
    received = run_on_terminal(START + "panel.close()\nprint('end')", columns=columns)
    text = plain(received)
    for part in ("step 40/40", "1:23 left", "loss 3.000 █", "lr 3.0e-04 · grad 0.81 · 5,120 tok/s · 2.5 GB"):
        assert part in text
    assert "evaluation: loss 3.500, 1.250 bits per byte at step 40" in text
    assert r"top_p: once upon a \x1b[31mtime and on" in text
    assert max(len(line) for line in re.split("[\r\n]+", text)) <= columns
    assert lines_left(received) == ["a line", "end"]


def test_a_bar_takes_the_place_of_the_panel_for_a_while():
    program = START + "import textgen.progress as it\nit.BAR_AFTER = 0.05\n"
    program += "with it.progress('evaluating'): time.sleep(0.6); print('within', flush=True)\n"
    received = run_on_terminal(program + "panel.add_step(40, 1.0)\npanel.close()\nprint('end')")
    assert re.search("evaluating .*so far", plain(received))
    assert lines_left(received) == ["a line", "within", "end"]


def test_the_cursor_is_there_again_when_a_process_leaves_at_once():
    program = START + "from textgen.progress import leave_terminal\nleave_terminal()\nos._exit(0)"
    received = run_on_terminal(program)
    assert received.count("\x1b[?25l") == received.count("\x1b[?25h") >= 1


def test_of_many_losses_half_are_kept_again_and_again():
    panel = LivePanel(100_000)
    for step in range(20_000):
        panel.add_step(step, float(step))
    assert len(panel._losses) <= 4096
    assert sparkline(panel._losses, 8) == "▁▂▃▄▅▆▇█"


def test_without_a_terminal_there_is_none(capsys):
    assert LivePanel.start(10) is None
    assert ON_SCREEN == []
