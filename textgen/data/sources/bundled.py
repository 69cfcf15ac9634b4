"""Bundled corpora: texts that every Python installation contains, so that everything works without a network."""

import ast
import hashlib
import importlib.metadata
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgen.data.formats.file_to_read import Row
from textgen.data.sources.markov import MarkovSource, is_markov

_UNDERLINE = re.compile(r"^(\*{3,}|={3,}|-{3,}|~{3,}|\^{3,})$")
# Licence names in package metadata.
_PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|0BSD|HPND|Unlicense|zlib)\b", re.I)
_RESTRICTED = re.compile(r"\b(A?L?GPL|GNU|MPL|Mozilla|proprietary|NVIDIA|CC-BY)\b", re.I)
_LONGEST_TITLE = 60  # characters


@dataclass(frozen=True)
class BundledCorpus:
    """A corpus that needs no files: a bundled text or a synthetic source.

    Attributes:
        texts: returns the documents' texts, or the columns of examples.
        fingerprint: returns a hash that changes whenever the texts do.
    """

    texts: Callable[[], Iterable[Row]]
    fingerprint: Callable[[], str]


def python_reference() -> list[str]:
    """The Python language reference as included in ``pydoc``, one text per section.

    ``pydoc_data.topics`` contains duplicates: the topic "compound" includes "if", "while" and more. Topics are cut at
    their headings and repeated paragraphs are dropped, so that no training paragraph leaks into the validation split
    through another topic.
    """
    from pydoc_data.topics import topics

    texts: list[str] = []
    seen: set[str] = set()
    for name in sorted(topics):
        for section in _sections(topics[name]):
            new = [p for p in re.split(r"\n\s*\n", section) if " ".join(p.split()) not in seen]
            seen |= {" ".join(p.split()) for p in new}
            text = "\n\n".join(new)
            if len(text.split()) >= 20:
                texts.append(text)
    return texts


def python_topics() -> list[Row]:
    """The sections of :func:`python_reference` that have a title, as examples of a task: title → section."""
    examples: list[Row] = []
    for text in python_reference():
        title, _, section = text.partition("\n")
        if section.strip() and len(title) <= _LONGEST_TITLE and not title.endswith((".", ":", ",")):
            examples.append({"prompt": f"Topic: {title.strip()}\n\n", "completion": section.strip("\n")})
    return examples


def _sections(topic: str) -> Iterator[str]:
    """The sections of a topic, each from one underlined heading to the next; the underlines are dropped."""
    lines: list[str] = []
    for line in topic.splitlines():
        if _UNDERLINE.match(line) and lines and lines[-1].strip():
            heading = lines.pop()
            yield "\n".join(lines).strip("\n")
            lines = [heading]
        else:
            lines.append(line)
    yield "\n".join(lines).strip("\n")


def docstrings() -> Iterator[str]:
    """Prose from the docstrings of the standard library and of installed packages with permissive licences.

    The bundled model was pretrained on it. Only paragraphs of prose are included, each once, and none that shares a
    line with the language reference, so that the reference remains unseen text for the bundled model.
    """
    reference = {line.strip() for text in python_reference() for line in text.splitlines() if len(line.strip()) > 30}
    seen: set[str] = set()
    for path in _python_files():
        for docstring in _docstrings_of(path):
            paragraphs = []
            for paragraph in re.split(r"\n\s*\n", docstring):
                key = " ".join(paragraph.split())
                if key in seen or not _is_prose(paragraph):
                    continue
                seen.add(key)
                if not any(line.strip() in reference for line in paragraph.splitlines()):
                    paragraphs.append(paragraph)
            if paragraphs:
                yield "\n\n".join(paragraphs)


def permissive_packages() -> dict[str, str]:
    """Installed packages whose metadata declare permissive licences only: name → version."""
    found = {}
    for distribution in importlib.metadata.distributions():
        meta: Any = distribution.metadata
        expression = meta.get("License-Expression") or ""
        classifiers = [c for c in meta.get_all("Classifier") or [] if c.startswith("License")]
        # The legacy License field may contain the whole licence text; its first line is the name.
        declared = expression or " ".join(classifiers) or (meta.get("License") or "").split("\n")[0]
        is_textgen = meta["Name"] == "textgen"  # excluded: the corpus must not change with this project
        if not is_textgen and _PERMISSIVE.search(declared) and not _RESTRICTED.search(declared):
            found[meta["Name"]] = distribution.version
    return dict(sorted(found.items()))


def _python_files() -> Iterator[Path]:
    """Source files of the standard library, then of the permissive packages, in a fixed order."""
    standard = Path(sysconfig.get_path("stdlib"))
    yield from sorted(
        p for p in standard.rglob("*.py") if "site-packages" not in p.parts and "pydoc_data" not in p.parts
    )
    for name in permissive_packages():
        for file in sorted(importlib.metadata.files(name) or []):
            if file.suffix == ".py" and ".." not in file.parts:
                yield Path(str(file.locate()))


def _docstrings_of(path: Path) -> Iterator[str]:
    """The ASCII docstrings of a source file; none if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escape sequences in other people's code
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring and docstring.isascii():
                yield docstring


def _is_prose(paragraph: str) -> bool:
    """Whether a paragraph is mostly letters and basic punctuation, and contains no code examples."""
    words = paragraph.split()
    plain = sum(c.isalpha() or c in " ,.'\n" for c in paragraph)
    return len(words) >= 8 and plain >= 0.88 * len(paragraph) and ">>>" not in paragraph and "::" not in paragraph


def _content_fingerprint(texts: Callable[[], Iterable[str]]) -> Callable[[], str]:
    return lambda: hashlib.sha256("\0".join(texts()).encode("utf-8")).hexdigest()


def _installed_fingerprint() -> str:
    # Reading every docstring takes minutes; the versions of Python and of the packages identify the texts as well.
    return hashlib.sha256(repr((sys.version, permissive_packages())).encode()).hexdigest()


BUNDLED = {
    "python-reference": BundledCorpus(python_reference, _content_fingerprint(python_reference)),
    "python-topics": BundledCorpus(python_topics, _content_fingerprint(python_reference)),
    "docstrings": BundledCorpus(docstrings, _installed_fingerprint),
}


def find_bundled(data: str, *, setting: str = "--data") -> BundledCorpus | None:
    """The bundled corpus or synthetic source with this name; None if it is neither.

    Args:
        data: a name from :data:`BUNDLED`, or a description such as ``markov:seed=1``.
        setting: the flag that named it, for error messages.

    Raises:
        UserError: a synthetic source has invalid parameters.
    """
    if is_markov(data):
        texts = MarkovSource.parse(data, setting=setting).texts
        return BundledCorpus(texts, _content_fingerprint(texts))
    return BUNDLED.get(data)
