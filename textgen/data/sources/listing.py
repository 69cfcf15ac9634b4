"""The data files that a path, directory or glob pattern names."""

import glob
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from textgen.data.formats.table import extension_of, find_format
from textgen.errors import UserError
from textgen.files import user_path

_SHOWN = 5  # links in a message


@dataclass(frozen=True)
class Listing:
    """Data files, and what was not taken.

    Attributes:
        files: path and name of each, in a fixed order.
        notes: one line each about what was passed over.
    """

    files: list[tuple[Path, str]]
    notes: list[str]


def list_files(data: str, *, setting: str = "--data") -> Listing | None:
    """The data files that ``data`` names; None if it is neither an existing path nor a glob pattern.

    A directory is searched through links that stay in it, each real directory once, so that a link to a parent ends.
    Hidden files are left out. A directory that ``datasets`` saved is the files that its state.json lists; of several
    splits, "train". What ``data`` itself names may be a link to anywhere.

    Raises:
        UserError: a directory cannot be listed, something in it leads out of it, or ``data`` is a pipe or a device.
    """
    path = user_path(data, setting=setting)
    try:
        is_directory, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:
        raise UserError(f"{setting} {data}: cannot be read: {error.strerror}.") from None
    if is_directory:
        found, notes = _walk(path, setting)
        return _listing(found, path, notes, data)
    if is_file:
        return Listing([(path, path.name)], [])
    if exists:
        raise UserError(
            f"{setting} {data}: not a file but a pipe or a device, which cannot be read several times. Save the text "
            "to a file first, and name that."
        )
    if glob.has_magic(data):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        found = _each_directory_once(match for match in sorted(matches) if not match.is_dir())
        data_files = [match for match in found if find_format(match)]
        check_inside(_fixed_part(path), data_files, f"{setting} {data}")
        root = Path(os.path.commonpath([match.parent for match in data_files])) if data_files else path
        return _listing(found, root, [], data)
    return None


def check_inside(root: Path, paths: Iterable[Path], place: str) -> None:
    """Check that paths stay in a directory: they may be links, or have been read from a file.

    Args:
        root: the directory.
        paths: what would be read.
        place: the flag and its value, for error messages.

    Raises:
        UserError: some lead out of it; the message names each and its target.
    """
    real_root = os.path.realpath(root)
    outside = []
    for path in paths:
        target = os.path.realpath(path)
        if os.path.commonpath([real_root, target]) != real_root:
            outside.append(f"{_first_link(root, path)} leads to {target}")
    if outside:
        more = f" and {len(outside) - _SHOWN} more" if len(outside) > _SHOWN else ""
        raise UserError(
            f"{place}: {'; '.join(outside[:_SHOWN])}{more}: outside of {root}. Only files in the directory that was "
            "named are read. Copy them into it, or name them with a --data of their own."
        )


def _first_link(root: Path, path: Path) -> Path:
    """The link on the way from a directory to a path; the path itself if none of its parts is one."""
    ways = [way for way in (*reversed(path.parents), path) if root in way.parents]
    return next((way for way in ways if way.is_symlink()), path)


def _fixed_part(pattern: Path) -> Path:
    """The directory that a glob pattern starts from."""
    parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts[:-1]))
    return Path(*parts)


def _listing(found: list[Path], root: Path, notes: list[str], data: str) -> Listing:
    passed_over = Counter(extension_of(path) or "no extension" for path in found if not find_format(path))
    if passed_over:
        number = passed_over.total()
        files = "1 file" if number == 1 else f"{number:,} files"
        counts = ", ".join(f"{extension} {count:,}" for extension, count in passed_over.most_common(8))
        notes = [*notes, f"{data}: passed over {files} of other formats ({counts})"]
    return Listing([(path, str(path.relative_to(root))) for path in sorted(found) if find_format(path)], notes)


def _walk(root: Path, setting: str) -> tuple[list[Path], list[str]]:
    """Every file below a directory, hidden ones left out, and notes on splits that were left out."""
    found: list[Path] = []
    notes: list[str] = []
    doubtful: list[Path] = []  # files that may lie elsewhere
    seen: set[tuple[int, int]] = set()
    left = [root]
    while left:
        directory = left.pop()
        try:
            check_inside(root, [directory], f"{setting} {root}")
            status = directory.stat()
            entries = sorted(e for e in directory.iterdir() if not e.name.startswith("."))
        except OSError as error:
            raise UserError(f"{setting} {directory}: cannot be listed: {error.strerror}.") from None
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        names = {entry.name for entry in entries}
        if "dataset_dict.json" in names:
            split, others = _split(directory / "dataset_dict.json", setting)
            left.append(directory / split)
            notes += [f"{directory}: the split {split} is used, and not {', '.join(others)}"] if others else []
        elif {"state.json", "dataset_info.json"} <= names:
            saved = _saved_files(directory, setting)
            found += saved
            doubtful += saved
        else:
            left += [entry for entry in reversed(entries) if entry.is_dir()]
            files = [entry for entry in entries if not entry.is_dir()]
            found += files
            doubtful += [entry for entry in files if entry.is_symlink()]
    check_inside(root, filter(find_format, doubtful), f"{setting} {root}")
    return found, notes


def _split(dataset_dict: Path, setting: str) -> tuple[str, list[str]]:
    splits = _read(dataset_dict, "splits", setting)
    if "train" in splits:
        return "train", [split for split in splits if split != "train"]
    raise UserError(
        f"{setting} {dataset_dict.parent}: none of its splits is called train ({', '.join(splits)}). Name the "
        "directory of one of them."
    )


def _saved_files(directory: Path, setting: str) -> list[Path]:
    """The files of a dataset that ``save_to_disk`` wrote; others next to them are caches of its transformations."""
    return [directory / name for name in _read(directory / "state.json", "_data_files", setting)]


def _read(path: Path, key: str, setting: str) -> list[str]:
    """A list of names in a JSON file of ``datasets``."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))[key]
        names = [value["filename"] if isinstance(value, dict) else value for value in values]
        if all(isinstance(name, str) and "\0" not in name for name in names):
            return names
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UserError(f"{setting} {path}: damaged. Save the dataset again with save_to_disk, or name its .arrow files.")


def _each_directory_once(paths: Iterable[Path]) -> list[Path]:
    """The paths without those that lead to the same directory again, through a link to a parent."""

    def unique() -> Iterator[Path]:
        first: dict[str, Path] = {}
        real: dict[Path, str] = {}
        for path in paths:
            parent = real.setdefault(path.parent, os.path.realpath(path.parent))
            if first.setdefault(parent, path.parent) == path.parent:
                yield path

    return list(unique())
