"""Token ids of large amounts of text: by the package fastokens where it can, else by the tokenizer's own code.

fastokens has the same result for byte-level BPE, many times as fast. It is not taken on trust: the first megabyte that
it encodes is compared with the tokenizer's own ids, and so is a share of all that follows.
"""

from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from textgen.data.tokenization import encode_batch
from textgen.errors import UserError

_WORTHWHILE = 1 << 20  # characters after which a second tokenizer pays for the time that it takes to set up
_COMPARED = 256  # one in so many texts is encoded twice; twenty would take as long as not using fastokens


class BulkEncoder:
    """Call it with texts, any number of times, for the token ids that :func:`encode_batch` returns.

    Args:
        tokenizer: the tokenizer to encode with.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer, self._characters = tokenizer, 0
        self._fast: _Fast | None = None
        self._undecided = True  # whether fastokens has yet to be tried

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text.

        Raises:
            UserError: fastokens made other tokens of a text, after it had made the same ones of a megabyte.
        """
        if self._fast:
            found = self._fast(texts)
            if found[::_COMPARED] != encode_batch(self._tokenizer, texts[::_COMPARED]):
                raise UserError(
                    "fastokens: this package makes other tokens of the data than the tokenizer itself. Uninstall it: "
                    "pip uninstall fastokens."
                )
            return found
        ids = encode_batch(self._tokenizer, texts)
        self._characters += sum(map(len, texts))
        if self._undecided and self._characters >= _WORTHWHILE:
            self._undecided = False
            fast = _Fast.of(self._tokenizer)
            self._fast = fast if fast and fast(texts) == ids else None
        return ids


class _Fast:
    """A tokenizer of fastokens, with the settings of another one."""

    def __init__(self, backend: Any, split_special_tokens: bool) -> None:
        self._backend, self._split = backend, split_special_tokens

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "_Fast | None":
        """The same tokenizer; None if the package is not installed, or does not know this kind of tokenizer."""
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        try:
            import fastokens

            return cls(fastokens.Tokenizer.from_json_str(backend.to_str()), backend.encode_special_tokens)
        except (ImportError, AttributeError, ValueError):
            return None

    def __call__(self, texts: list[str]) -> list[list[int]]:
        ids, ends = self._backend.encode_batch_flat(texts, add_special_tokens=False, split_special_tokens=self._split)
        pieces = np.split(np.frombuffer(ids, np.uint32), np.frombuffer(ends, np.uint64)[1:-1].astype(np.int64))
        return [piece.tolist() for piece in pieces[: len(texts)]]
