"""Files of a directory with their checksums beside them, kept in memory by the process that writes them.

``checksums.json`` has the SHA-256 of each file. While a group of files is replaced, it has those of the old and the new
contents: after a kill, each file is one of the two, and so intact.

What was read or written once is not read again, so damage that happens meanwhile does no harm:
:meth:`CheckedFiles.mend` writes it again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from textgen.checksums import file_sha256, read_sealed, sha256_of, write_sealed
from textgen.errors import UserError
from textgen.files import mend, read_bytes, write_bytes

CHECKSUMS = "checksums.json"


class CheckedFiles:
    """The files of one directory.

    Args:
        directory: it is created with the first file.
        names: the files that are written there.
        remedy: what error messages tell the user to do about a damaged file.
    """

    def __init__(self, directory: Path, names: Sequence[str], *, remedy: str) -> None:
        self.directory, self._names, self._remedy = directory, names, remedy
        self._contents: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        """The contents of a file; None if it was never written. A file without any checksum is not checked.

        Raises:
            UserError: it cannot be read, or is not what was written; or ``checksums.json`` is damaged.
        """
        if name in self._contents:
            return self._contents[name]
        path = self.directory / name
        for _ in range(2):  # another process may have written both between the two reads
            expected = self._expected().get(name)
            if not path.exists() and not expected:
                return None
            data = read_bytes(path, self._remedy)
            if not expected or sha256_of(data) in expected:
                self._contents[name] = data
                return data
        raise UserError(f"{path}: damaged: it does not match its checksum. {self._remedy}")

    def write(self, files: Mapping[str, bytes]) -> None:
        """Replace a group of files."""
        new = {name: [sha256_of(data)] for name, data in files.items()}
        old = {name: [sha256_of(data)] for name, data in self._contents.items()}
        before = {**self._intact_others(), **old}
        either = before | {name: before.get(name, []) + sha256 for name, sha256 in new.items()}
        write_sealed(self.directory / CHECKSUMS, {"files": either})
        for name, data in files.items():
            write_bytes(self.directory / name, data)
        self._contents |= files
        write_sealed(self.directory / CHECKSUMS, {"files": before | new})

    def hashes(self) -> dict[str, str]:
        """Name → SHA-256 of every file, and of ``checksums.json``."""
        found = {name: sha256[-1] for name, sha256 in self._expected().items()}
        own = file_sha256(self.directory / CHECKSUMS)
        return found | ({CHECKSUMS: own} if own else {})

    def damage(self) -> list[str]:
        """Names of files that are missing or damaged; only ``checksums.json`` if that is one of them."""
        if not (self.directory / CHECKSUMS).exists():
            return [CHECKSUMS] if any((self.directory / name).exists() for name in self._names) else []
        try:
            expected = self._expected()
        except UserError:
            return [CHECKSUMS]
        return [name for name, sha256 in expected.items() if file_sha256(self.directory / name) not in sha256]

    def discard(self) -> None:
        """Delete all files that are written here, and what is in memory of them."""
        self._contents.clear()
        for name in (*self._names, CHECKSUMS):
            (self.directory / name).unlink(missing_ok=True)

    def mend(self) -> list[str]:
        """Write again what was damaged since it was read or written; returns the names of these files."""
        found = [name for name, data in self._contents.items() if mend(self.directory / name, data)]
        files = {name: [sha256_of(data)] for name, data in self._contents.items()}
        intact = self._intact_others()
        if files and read_sealed(self.directory / CHECKSUMS) != {"files": {**intact, **files}}:
            write_sealed(self.directory / CHECKSUMS, {"files": {**intact, **files}})
            found.append(CHECKSUMS)
        return found

    def _expected(self) -> dict[str, list[str]]:
        """Name → SHA-256 of the contents that a file may have, the newest last."""
        path = self.directory / CHECKSUMS
        if not path.exists():
            return {}
        found = read_sealed(path)
        if found is None:
            raise UserError(f"{path}: damaged: it does not match its checksum. {self._remedy}")
        return dict(found["files"])

    def _intact_others(self) -> dict[str, list[str]]:
        """What ``checksums.json`` says of files that are not in memory; nothing if it is damaged."""
        try:
            return {name: sha256 for name, sha256 in self._expected().items() if name not in self._contents}
        except UserError:
            return {}
