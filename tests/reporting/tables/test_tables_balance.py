"""The gain on held-out text, that without contaminated documents, and the change on retained text."""

import pytest

from textgen.reporting.results import RunFiles
from textgen.reporting.tables.balance import (
    CONTAMINATED_SHOWN,
    balance_columns,
    balance_findings,
    balance_rows,
    contaminated_rows,
    contamination_finding,
    mask_findings,
    near_duplicates_finding,
)


@pytest.fixture
def run(balance_dir) -> RunFiles:
    return RunFiles.read(balance_dir)


def test_a_row_for_each_set_of_documents(run):
    assert balance_columns(run.perplexity) == ["documents", "before", "after", "difference"]
    assert [(name, [value for value, _ in cells]) for name, cells in balance_rows(run.perplexity)] == [
        ("held-out text", ["12", "1.920", "1.410", "−0.510"]),
        ("without contaminated documents", ["10", "1.900", "1.450", "−0.450"]),
        ("text to retain", ["12 of 3,000", "2.500", "2.750", "0.250"]),
    ]
    assert balance_rows(run.perplexity)[2][1][3] == ("0.250", "0.200–0.300")


def test_held_out_text_alone_has_no_table(run):
    stated = {name: entry for name, entry in run.perplexity.items() if name != "retained"}
    for entry in stated.values():
        entry.pop("uncontaminated")
    assert balance_rows(stated) == []
    assert balance_findings(stated, {}) == []


def test_one_model_alone_has_no_difference(run):
    stated = {"model": run.perplexity["after"], "retained": {"model": run.perplexity["retained"]["after"]}}
    assert balance_columns(stated) == ["documents", "model"]
    assert [len(cells) for _, cells in balance_rows(stated)] == [2, 2, 2]
    assert balance_findings(stated, run.contamination) == [
        "2 of 12 scored documents share 13 words in a row with a training document; without them: model 1.450",
        "text to retain: model 2.750 bits per byte",
    ]


def test_findings_are_a_line_each(run):
    assert balance_findings(run.perplexity, run.contamination) == [
        "2 of 12 scored documents share 13 words in a row with a training document; "
        "without them: difference −0.450 (−0.500 to −0.400)",
        "text to retain: before 2.500, after 2.750, difference 0.250 (0.200–0.300) bits per byte",
    ]


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (0, "No scored document shares 13 words in a row with a training document."),
        (1, "1 of 3 scored documents shares 13 words in a row with a training document."),
        (2, "2 of 3 scored documents share 13 words in a row with a training document."),
        (
            3,
            "3 of 3 scored documents share 13 words in a row with a training document, so there are no figures without "
            "them.",
        ),
    ],
)
def test_contamination_in_words(found, finding):
    documents = [{"id": str(n), "words": 20} for n in range(found)]
    contamination = {"ngram_words": 13, "held_out_documents": 3, "documents": documents}
    assert contamination_finding(contamination) == finding
    named = contamination_finding(contamination | {"training_data": "a.txt"})
    assert named == finding.replace("a training document", "a training document of a.txt")
    assert contamination_finding({}) == ""


def test_short_documents_share_all_of_their_words():
    documents = [{"id": "a", "words": 20}, {"id": "b", "words": 2}]
    finding = contamination_finding({"ngram_words": 13, "held_out_documents": 3, "documents": documents})
    assert "share 13 words in a row, or all of fewer words, with a training document." in finding


MASK = {"examples": 90, "tokens": 8000, "targets": 1234, "cut": 0, "without_prompt": 0, "untargeted": 0, "left_out": 0}


@pytest.mark.parametrize(
    ("more", "findings"),
    [
        ({}, []),
        (
            {"cut": 3, "without_prompt": 1},
            [
                "3 of 90 examples do not fit into one block, 1 of which have a prompt that fills the block: what comes "
                "after is trained on without the beginning."
            ],
        ),
        ({"untargeted": 2}, ["2 of 90 examples have nothing that is trained on."]),
        ({"left_out": 1}, ["1 row was left out, without a completion or an answer."]),
        ({"left_out": 1200}, ["1,200 rows were left out, without a completion or an answer."]),
    ],
)
def test_what_was_trained_on_in_words(more, findings):
    assert mask_findings(MASK | more) == ["Trained on: 1,234 of 8,000 training tokens (15.4 %).", *findings]
    assert mask_findings({}) == []


@pytest.mark.parametrize(
    ("near", "finding"),
    [
        ({"compared": 88, "found": 0}, "Of 88 training documents compared, none nearly equals another."),
        (
            {"compared": 80, "found": 3},
            "Of 80 of 88 training documents compared, 3 nearly equal an earlier one, such as b and a (estimated "
            "similarity 0.95).",
        ),
        (
            {"compared": 80, "found": 1},
            "Of 80 of 88 training documents compared, 1 nearly equals an earlier one, such as b and a (estimated "
            "similarity 0.95).",
        ),
        ({"compared": 0, "found": 0}, ""),
        (None, ""),
    ],
)
def test_near_duplicates_in_words(near, finding):
    example = {"id": "b", "earlier_id": "a", "similarity": 0.953125}
    found = {"training_documents": 88, "near_duplicates": near and near | {"examples": [example]}}
    assert near_duplicates_finding(found) == finding
    assert near_duplicates_finding({}) == ""


def test_the_first_contaminated_documents_are_shown():
    documents = [{"id": str(n)} for n in range(100)]
    assert contaminated_rows({"documents": documents}) == documents[:CONTAMINATED_SHOWN]
    assert contaminated_rows({}) == []
