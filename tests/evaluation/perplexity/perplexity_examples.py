"""Example documents: shorter and longer than the context, with spaces, line breaks and non-ASCII characters."""

from textgen.data.document import Document

CONTEXT = 32
TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "x",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light — naïve, isn't it?",
    "  Leading space, and a trailing one ",
    "Call me Ishmael.\n\nSome years ago,\nnever mind how long precisely.",
] + [" ".join(f"word{number % 7}" for number in range(length)) for length in (3, 40, 90)]
DOCUMENTS = [Document(f"test#{number}", "test", text) for number, text in enumerate(TEXTS)]
