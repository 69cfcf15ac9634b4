"""Texts that are on every machine that runs Python, so that everything works with no network."""

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

from textgen.data.markov import MarkovSource, is_markov

_UNDERLINE = re.compile(r"^(\*{3,}|={3,}|-{3,}|~{3,}|\^{3,})$")
_PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|0BSD|HPND|Unlicense|zlib)\b", re.I)
_RESTRICTED = re.compile(r"\b(A?L?GPL|GNU|MPL|Mozilla|proprietary|NVIDIA|CC-BY)\b", re.I)


@dataclass(frozen=True)
class Bundled:
    """A corpus: its texts, and a fingerprint that changes when they do."""

    texts: Callable[[], Iterable[str]]
    fingerprint: Callable[[], str]


def python_reference() -> list[str]:
    """The Python language reference as ``pydoc`` ships it, one text a section.

    `pydoc_data.topics` repeats itself: the topic "compound" contains "if", "while" and more. Cut at the headings and
    with repeated sections dropped, no paragraph that is trained on comes back in the validation split by way of
    another topic.
    """
    from pydoc_data.topics import topics

    texts: list[str] = []
    seen: set[str] = set()
    for name in sorted(topics):
        for section in _sections(topics[name]):
            fresh = [p for p in re.split(r"\n\s*\n", section) if " ".join(p.split()) not in seen]
            seen |= {" ".join(p.split()) for p in fresh}
            text = "\n\n".join(fresh)
            if len(text.split()) >= 20:
                texts.append(text)
    return texts


def _sections(topic: str) -> Iterator[str]:
    """A topic cut before each underlined heading; the underline itself is dropped."""
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
    """The prose of the docstrings of the standard library and of installed packages with permissive licences.

    What the bundled model was pretrained on. Only paragraphs that read as prose are taken, and none that stands in
    the language reference, which stays unseen.
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
    """Installed distributions whose metadata declare a permissive licence and no other: name → version."""
    found = {}
    for distribution in importlib.metadata.distributions():
        meta: Any = distribution.metadata
        expression = meta.get("License-Expression") or ""
        classifiers = [c for c in meta.get_all("Classifier") or [] if c.startswith("License")]
        # The old License field may hold a whole licence text; its first line is the name.
        declared = expression or " ".join(classifiers) or (meta.get("License") or "").split("\n")[0]
        own = meta["Name"] == "textgen"  # a corpus that changes with its own project could not be named
        if not own and _PERMISSIVE.search(declared) and not _RESTRICTED.search(declared):
            found[meta["Name"]] = distribution.version
    return dict(sorted(found.items()))


def _python_files() -> Iterator[Path]:
    standard = Path(sysconfig.get_path("stdlib"))
    yield from sorted(
        p for p in standard.rglob("*.py") if "site-packages" not in p.parts and "pydoc_data" not in p.parts
    )
    for name in permissive_packages():
        for file in sorted(importlib.metadata.files(name) or []):
            if file.suffix == ".py" and ".." not in file.parts:
                yield Path(str(file.locate()))


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring and docstring.isascii():
                yield docstring


def _is_prose(paragraph: str) -> bool:
    words = paragraph.split()
    plain = sum(c.isalpha() or c in " ,.'\n" for c in paragraph)
    return len(words) >= 8 and plain >= 0.88 * len(paragraph) and ">>>" not in paragraph and "::" not in paragraph


def _content_fingerprint(texts: Callable[[], Iterable[str]]) -> Callable[[], str]:
    return lambda: hashlib.sha256("\0".join(texts()).encode("utf-8")).hexdigest()


def _installed_fingerprint() -> str:
    # Reading every docstring takes minutes; the versions that they come from identify them as well.
    return hashlib.sha256(repr((sys.version, permissive_packages())).encode()).hexdigest()


BUNDLED = {
    "python-reference": Bundled(python_reference, _content_fingerprint(python_reference)),
    "docstrings": Bundled(docstrings, _installed_fingerprint),
}


def find_bundled(data: str, *, setting: str = "--data") -> Bundled | None:
    """The corpus of that name, or the synthetic source that it describes; None if it is neither.

    Raises:
        UserError: it describes a synthetic source wrongly.
    """
    if is_markov(data):
        texts = MarkovSource.parse(data, setting=setting).texts
        return Bundled(texts, _content_fingerprint(texts))
    return BUNDLED.get(data)
