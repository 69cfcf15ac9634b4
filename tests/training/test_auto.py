"""Learning rates and warm-ups that fit the model and the run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.training.auto import LEARNING_RATES, auto_learning_rate, auto_warmup_steps

KINDS = {
    "full": {"method": "full"},
    "adapters": {"method": "lora"},
    "from scratch": {"method": "full", "from_scratch": True},
}


@pytest.mark.parametrize(
    ("kind", "parameters", "rate"),
    [(kind, size, rate) for kind, table in LEARNING_RATES.items() for size, rate in table],
)
def test_sizes_of_the_table_get_its_rates(kind, parameters, rate):
    assert auto_learning_rate(int(parameters), **KINDS[kind]) == pytest.approx(rate)


def test_a_model_of_135_million_parameters_gets_rates_that_were_measured_on_one():
    """Half of either was worse."""
    assert auto_learning_rate(134_515_008, method="full") == 2e-4
    assert auto_learning_rate(134_515_008, method="lora") == 2e-3


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(1, 10**13), st.integers(1, 10**13))
def test_a_larger_model_never_gets_a_higher_rate_and_every_rate_is_within_the_table(kind, one, other):
    small, large = (auto_learning_rate(size, **KINDS[kind]) for size in sorted((one, other)))
    rates = [rate for _, rate in LEARNING_RATES[kind]]
    assert rates[-1] <= large <= small <= rates[0]


def test_quantized_weights_have_the_rate_of_adapters():
    assert auto_learning_rate(10**9, method="qlora") == auto_learning_rate(10**9, method="lora")


@pytest.mark.parametrize(("total", "expected"), [(1, 1), (10, 1), (45, 5), (1000, 100), (10**6, 500)])
def test_the_warm_up_is_a_share_of_the_run(total, expected):
    assert auto_warmup_steps(total) == expected
