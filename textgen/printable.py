r"""Untrusted text as it may be shown: on a terminal, in HTML, in Markdown and in experiment trackers.

Names of files, models and columns, documents and what a model writes may contain characters that move a terminal's
cursor, recolor it or set its title, and marks that reverse the direction of the text around them. They are shown as
Python's escapes, such as ``\x1b``, so that nothing is lost and nothing is interpreted.
"""

import re
from typing import Any

# Control characters except tab and newline (C0, DEL, C1), marks of the writing direction, separators that end a line in
# some programs only, surrogates, which have no UTF-8, and noncharacters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: Any) -> str:
    r"""Text with control characters, marks of the writing direction and surrogates as escapes: ``\x1b``, ``\u202e``.

    Tabs and newlines stay. What was made printable once does not change again.
    """
    return _HIDDEN.sub(_escape, str(text))


def counted(number: float, one: str, many: str = "") -> str:
    """A number with its noun: "1 document", "1,234 documents". The plural has an s unless ``many`` is given."""
    return f"{int(number) if number == int(number) else number:,} {one if number == 1 else many or f'{one}s'}"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
