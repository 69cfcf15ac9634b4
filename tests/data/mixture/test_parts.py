"""``--data a.jsonl:0.7,b/:0.3`` is parts with weights, and everything else is a single source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data.mixture.parts import PERIOD, WeightedPart, data_name, parse_mixture, period_counts
from textgen.errors import UserError


def test_parts_have_weights_that_add_up_to_one():
    assert parse_mixture("a.jsonl:3,b/:1") == (WeightedPart("a.jsonl", 0.75), WeightedPart("b/", 0.25))
    assert [str(part) for part in parse_mixture("a.jsonl:0.7,b/:.3")] == ["70.0% a.jsonl", "30.0% b/"]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("markov:seed=1,states=4:1,b:1", ["markov:seed=1,states=4", "b"]),
        ("owner/name:test:1,https://localhost:8080/a.txt:1e0", ["owner/name:test", "https://localhost:8080/a.txt"]),
        ("a:1,b:2,c:3", ["a", "b", "c"]),
    ],
)
def test_colons_and_commas_may_be_in_names(data, names):
    assert [part.data for part in parse_mixture(data)] == names


@pytest.mark.parametrize(
    "data", ["a.jsonl", "a.jsonl:0.7", "a,b", "a,b:1", "markov:seed=1,states=4", "owner/name:train", "https://h:80/a,b"]
)
def test_a_single_source_is_no_mixture(data):
    assert parse_mixture(data) == ()


def test_what_exists_as_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:1,b:2").touch()
    assert parse_mixture("a:1,b:2") == ()
    assert data_name("a:1,b:2") == "a:1,b:2"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a:1,b", r"--data a:1,b: 'b' is not a name with a weight"),
        ("a:1,:2", r"':2' is not a name with a weight"),
        ("a:1,b:0", r"--data b:0: a weight must be a positive number"),
        ("a:-1,b:1e999", r"2 problems:\n- --data a:-1: .*\n- --data b:inf: "),
        ("a:1,a/:2", r"--data a: named 2 times"),
        ("a:1,b:9999", r"the share of a is less than 1 block in 1,000"),
    ],
)
def test_problems_name_the_part(data, message):
    with pytest.raises(UserError, match=message):
        parse_mixture(data)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_counts_are_the_shares_rounded_and_add_up(weights):
    shares = [weight / sum(weights) for weight in weights]
    counts = period_counts(shares)
    assert sum(counts) == PERIOD
    assert all(abs(count - share * PERIOD) < 1 for count, share in zip(counts, shares, strict=True))


def test_the_largest_remainders_are_rounded_up():
    assert period_counts([1 / 3, 1 / 3, 1 / 3]) == (334, 333, 333)
    assert period_counts([0.0006, 0.9994]) == (1, 999)


def test_a_mixture_has_a_short_name():
    assert data_name("texts/plays.txt") == "plays"
    assert data_name("texts/plays.txt:1,b/:2") == "plays+b"
    assert len(data_name(",".join(f"source-{i}:1" for i in range(100)))) == 80
    assert data_name("a:1,b:0")  # the problem is reported elsewhere
