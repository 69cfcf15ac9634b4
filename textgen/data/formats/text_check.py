"""Whether bytes are UTF-8 text, checked chunk by chunk, with errors that name the byte and the remedy."""

import codecs
from pathlib import Path

from textgen.errors import UserError

# Byte order marks of encodings other than UTF-8; UTF-32's first, since it begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# Command that decompresses a file to standard output, by the last part of its name.
_DECOMPRESS = {".gz": "gzip -dc", ".zst": "zstd -dc"}


class TextCheck:
    """Checks the chunks of one file in turn.

    Args:
        path: the file, whose name is in the remedies.
        where: what messages start with; the path if empty.

    Attributes:
        blank: whether all text so far is white space or a byte order mark.
    """

    def __init__(self, path: Path, where: str = "") -> None:
        self.blank = True
        self._path, self._where = path, where or str(path)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._offset = 0

    def feed(self, chunk: bytes) -> None:
        """Check the next chunk.

        Raises:
            UserError: it contains NUL, or is not UTF-8.
        """
        if self._offset == 0:
            self._check_mark(chunk)
        if (nul := chunk.find(b"\0")) >= 0:
            self._raise_binary(chunk, nul)
        self._decode(chunk)
        if self.blank:
            text = chunk.removeprefix(codecs.BOM_UTF8) if self._offset == 0 else chunk
            self.blank = not text.strip()
        self._offset += len(chunk)

    def finish(self) -> None:
        """Check that the last character is complete.

        Raises:
            UserError: it is not.
        """
        self._decode(b"", final=True)

    def _check_mark(self, start: bytes) -> None:
        for mark, encoding in _MARKS.items():
            if start.startswith(mark):
                raise UserError(f"{self._where}: the text is in {encoding}, not UTF-8. {self._remedy(encoding)}")

    def _raise_binary(self, chunk: bytes, nul: int) -> None:
        # ASCII text in UTF-16 without a byte order mark: every second byte is NUL.
        pair = chunk[nul & ~1 :][:200]
        if self._offset + nul < 2 and len(pair) >= 4 and min(pair[::2].count(0), pair[1::2].count(0)) == 0:
            encoding = "UTF-16LE" if nul == 1 else "UTF-16BE"
            if max(pair[::2].count(0), pair[1::2].count(0)) >= 0.9 * (len(pair) // 2):
                raise UserError(f"{self._where}: the text seems to be in {encoding}. {self._remedy(encoding)}")
        raise UserError(f"{self._where}: byte {self._offset + nul} is NUL, so this is a binary file, not text.")

    def _decode(self, chunk: bytes, *, final: bool = False) -> None:
        carried = len(self._decoder.getstate()[0])  # bytes of a character that began in the previous chunk
        try:
            self._decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            byte = f"{self._offset - carried + error.start} (0x{error.object[error.start]:02x})"
            raise UserError(f"{self._where}: not UTF-8 at byte {byte}. {self._remedy('LATIN1')}") from None

    def _remedy(self, encoding: str) -> str:
        convert, suffix = f"iconv -f {encoding} -t UTF-8", self._path.suffix
        if command := _DECOMPRESS.get(suffix.lower()):
            suffix = self._path.with_suffix("").suffix
            return f"Convert it, for example: {command} {self._path.name} | {convert} > converted{suffix}"
        return f"Convert it, for example: {convert} {self._path.name} > converted{suffix}"
