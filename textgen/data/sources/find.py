"""Finding the texts that ``--data`` names: files, bundled corpora or hub datasets, each checked and fingerprinted."""

import difflib
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from textgen.config import as_utf8
from textgen.data.config import DataConfig
from textgen.data.formats.delimited import csv_separator
from textgen.data.formats.file_to_read import FileToRead
from textgen.data.formats.table import SUPPORTED, extension_of, find_format
from textgen.data.mixture.parts import WeightedPart, parse_mixture
from textgen.data.sources.bundled import BUNDLED, find_bundled
from textgen.data.sources.file_checks import check_file
from textgen.data.sources.fingerprints import content_sha256
from textgen.data.sources.hub import hub_source
from textgen.data.sources.listing import Listing, list_files
from textgen.data.sources.remote import fetch_files, is_url
from textgen.data.sources.source import DataSources, Source
from textgen.errors import UserError, collect_problems
from textgen.progress import progress
from textgen.redaction import redact

Parts = tuple[tuple[WeightedPart, list[Source]], ...]


def find_data(config: DataConfig) -> DataSources:
    """The sources that a configuration names, checked and fingerprinted by their content.

    Raises:
        UserError: data is missing or unusable; the message lists every such file.
    """
    found: dict[str, list[Source]] = {}
    notes: list[str] = []
    problems: list[str] = []
    parts: Parts = ()
    named = {"--data": config.data, "--validation-data": config.validation_data, "--retain-data": config.retain_data}
    for setting, data in named.items():
        if data is not None:
            with collect_problems(problems):
                if not data:
                    raise UserError(f"{setting}: it is empty. Name a file, a directory or a bundled corpus.")
                weighted = parse_mixture(data, setting=setting)
                if weighted and setting != "--data":
                    raise UserError(f"{setting} {data}: only --data can be a mixture. Name a directory of all files.")
                if weighted:
                    parts, about = _find_parts(weighted, config)
                    found[setting] = [source for _, sources in parts for source in sources]
                else:
                    found[setting], about = _find(data, config, setting)
                notes += about
    if problems:
        raise UserError.of(problems)
    return DataSources(
        found["--data"],
        found.get("--validation-data"),
        found.get("--retain-data"),
        notes=tuple(notes),
        parts=parts,
    )


def find_sources(data: str, config: DataConfig, *, setting: str = "--data") -> list[Source]:
    """The sources that ``data`` names, in a fixed order, each checked and fingerprinted by its content.

    Args:
        data: a bundled corpus, file, directory, glob pattern, URL or hub dataset. What exists as a path is a path.
        config: names the configuration of a hub dataset, and the text column.
        setting: the flag that named the data, for error messages.

    Raises:
        UserError: there is no such data, or a file is empty, binary, not UTF-8 or in an unknown format; the message
            lists every such file.
    """
    return _find(data, config, setting)[0]


def _find_parts(weighted: tuple[WeightedPart, ...], config: DataConfig) -> tuple[Parts, list[str]]:
    """The sources of each part of a mixture, with names that differ, and notes about them."""
    found: list[list[Source]] = []
    notes = [f"--data is a mixture: {', '.join(map(str, weighted))}"]
    problems: list[str] = []
    for part in weighted:
        with collect_problems(problems):
            sources, about = _find(part.data, config, "--data")
            found.append(sources)
            notes += about
    every = [source for sources in found for source in sources]
    for place, number in Counter(map(_place, every)).items():
        if number > 1:
            problems.append(f"--data {place}: in {number} parts of the mixture. Name it in one of them.")
    if problems:
        raise UserError.of(problems)
    names = Counter(source.name for source in every)
    parts = []
    for part, sources in zip(weighted, found, strict=True):
        if any(names[source.name] > 1 for source in sources):
            sources = [replace(source, name=f"{redact(part.data).rstrip('/')}/{source.name}") for source in sources]
        parts.append((part, sources))
    return tuple(parts), notes


def _place(source: Source) -> str:
    return source.location if source.kind in ("bundled", "hub") else os.path.realpath(source.location)


def _find(data: str, config: DataConfig, setting: str) -> tuple[list[Source], list[str]]:
    """The sources, and notes about them."""
    if bundled := find_bundled(data, setting=setting):
        return [Source(data, "bundled", data, bundled.fingerprint())], []
    if is_url(data) and not os.path.exists(data):
        listing: Listing | None = fetch_files(data, setting=setting)
    else:
        listing = list_files(data, setting=setting)
    if listing is None:
        _check_hub_id(data, setting)
        return [hub_source(data, config, setting)], []
    if not listing.files:
        raise UserError(f"{setting} {data}: no file with a supported extension ({SUPPORTED}) found there.")
    return _file_sources(listing, config, setting), [*listing.notes, *_separator_notes(listing, config, data, setting)]


def _file_sources(listing: Listing, config: DataConfig, setting: str) -> list[Source]:
    found, problems = [], []
    with progress("checking data files", total=len(listing.files), unit="files") as advance:
        for path, name in listing.files:
            advance(1)
            file_format = find_format(path)
            if file_format is None:
                extension = extension_of(path)
                problems.append(f"{setting} {path}: unknown format '{extension}'. Supported formats: {SUPPORTED}.")
                continue
            try:
                fingerprint = content_sha256(path, check_file, verify=config.verify_data)
            except UserError as error:
                problems.append(f"{setting} {error}")
            else:
                found.append(Source(as_utf8(name), file_format.kind, str(path), fingerprint))
    if problems:
        raise UserError.of(problems)
    return found


def _separator_notes(listing: Listing, config: DataConfig, data: str, setting: str) -> list[str]:
    """Which .csv files are separated by something else than commas."""
    paths = [path for path, _ in listing.files if extension_of(path).startswith(".csv")]
    found = Counter(csv_separator(FileToRead(path, setting, config.text_column)) for path in paths)
    return [
        f"{data}: columns are separated by {separator!r} in {number:,} of {len(paths):,} .csv files"
        for separator, number in found.items()
        if separator != ","
    ]


def _check_hub_id(data: str, setting: str) -> None:
    """Check that a name that is no path can be a hub id, and is not a misspelt path.

    Raises:
        UserError: it is not.
    """
    near = difflib.get_close_matches(data, BUNDLED, n=1, cutoff=0.7)
    looks_like_path = find_format(Path(data)) or data.startswith(("/", ".", "~")) or data.endswith((".md", ".gz"))
    if near or looks_like_path or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:\w+)?", data):
        hint = f"Did you mean '{near[0]}'?" if near else "Check the path; it is read from the current directory."
        raise UserError(f"{setting} {data}: there is no such file or directory. {hint}")
