from textgen.data.document import Document
from textgen.data.overlap.contamination import SHOWN_CHARACTERS, SharedText, find_contamination

CLEAN = Document("h#0", "h", "Nothing of this text was ever read in training, or so one may hope, at least not here.")
SHARED = "the quick brown fox jumps over the lazy dog and runs into the dark forest"
TRAINING = [
    Document("t#0", "t", "Some other text."),
    Document("t#1", "t", f"It was told that {SHARED}, never to return."),
]


def test_shows_the_shared_passage_as_the_held_out_document_has_it() -> None:
    document = Document("h#1", "h", f"Yesterday: “The QUICK, brown{SHARED[15:]}!” And so on.")
    found = find_contamination([CLEAN, document], TRAINING, 13)
    assert (found.training_documents, found.held_out_documents, found.ids) == (2, 2, {"h#1"})
    assert found.documents == (SharedText("h#1", 19, 15, "t#1", f"The QUICK, brown{SHARED[15:]}", 15),)
    assert find_contamination([CLEAN, document], TRAINING, 16).documents == ()


def test_counts_words_of_all_passages_and_shows_the_longest() -> None:
    one, two = " ".join("abcdefg"), " ".join("klmnopqrst")
    training = [Document("t#0", "t", one), Document("t#1", "t", two)]
    (shared,) = find_contamination([Document("h", "h", f"{one} - between {two} x y")], training, 5).documents
    assert (shared.words, shared.shared_words) == (20, 17)
    assert (shared.training_id, shared.passage, shared.passage_words) == ("t#1", two, 10)


def test_the_largest_share_is_first() -> None:
    documents = [Document(f"h#{i}", "h", f"{SHARED} {' '.join(map(str, range(i)))}") for i in (9, 0, 30, 5)]
    found = find_contamination(documents, TRAINING, 13)
    assert [shared.id for shared in found.documents] == ["h#0", "h#5", "h#9", "h#30"]


def test_long_passages_are_cut() -> None:
    text = " ".join(f"word{i}" for i in range(1000))
    (shared,) = find_contamination([Document("h", "h", text)], [Document("t", "t", text)], 13).documents
    assert shared.passage_words == shared.shared_words == 1000
    assert shared.passage == f"{text[:SHOWN_CHARACTERS]} …"


def test_a_short_document_is_its_own_passage() -> None:
    (shared,) = find_contamination([Document("h", "h", "some, other text")], TRAINING, 13).documents
    assert shared == SharedText("h", 3, 3, "t#0", "some, other text", 3)
