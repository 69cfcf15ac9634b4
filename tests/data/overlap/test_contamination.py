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


def example(number: int, prompt: str, completion: str, *, source: str, completion_only: bool = True) -> Document:
    return Document(f"{source}#{number}", source, prompt + completion, prompt, (), completion_only)


def test_a_short_completion_is_shared_with_its_whole_example_only() -> None:
    rule = f"Answer by yes or no, as {SHARED}. "
    training = [example(i, f"{rule}Is {i} odd?", " yes" if i % 2 else " no", source="t") for i in range(9)]
    other = example(0, f"{rule}Is 31 odd?", " yes", source="h")
    same = example(1, f"{rule} Is 3 odd?", " Yes!", source="h")
    found = find_contamination([other, same], training, 13)
    assert found.documents == (SharedText("h#1", 1, 1, "t#3", "Yes", 1),)
    everything = [example(0, f"{rule}Is 31 odd?", " yes", source="h", completion_only=False)]
    whole = [example(0, f"{rule}Is 1 odd?", " yes", source="t", completion_only=False)]
    assert find_contamination(everything, whole, 13).ids == {"h#0"}, "the prompt is scored too"


def test_a_long_completion_is_compared_without_its_prompt() -> None:
    training = [example(0, f"As {SHARED}, why?", " Because of this and that.", source="t")]
    clean = example(0, f"As {SHARED}, why?", f" Because {' '.join(map(str, range(20)))}.", source="h")
    copied = example(1, "Tell a story.", f" One day, {SHARED}.", source="h")
    told = [*training, example(1, "Another story?", f" It is said that {SHARED}.", source="t")]
    assert find_contamination([clean, copied], training, 13).documents == ()
    assert find_contamination([clean, copied], told, 13).ids == {"h#1"}


def test_a_short_document_is_its_own_passage() -> None:
    (shared,) = find_contamination([Document("h", "h", "some, other text")], TRAINING, 13).documents
    assert shared == SharedText("h", 3, 3, "t#0", "some, other text", 3)
