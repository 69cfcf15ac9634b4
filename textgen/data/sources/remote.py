"""Files named by URL: copied into the cache, and read from there.

A copy is taken once for each version of a file, so every process and every pass over the data reads the same bytes, at
the speed of the disk, and the data's fingerprint is that of its content. All of `fsspec`'s protocols work: https://,
hf://, s3:// (needs s3fs), gs:// (needs gcsfs) and more.
"""

import glob
import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from textgen.checksums import read_sealed, write_sealed
from textgen.config import as_utf8
from textgen.data.cache import cache_lock, create_cache
from textgen.data.formats.table import SUPPORTED, find_format
from textgen.data.sources.file_checks import check_file
from textgen.data.sources.fingerprints import content_sha256
from textgen.data.sources.listing import Listing
from textgen.errors import UserError, first_line
from textgen.hub import use_hub
from textgen.redaction import redact

# What file systems say about a file that changes when its content does.
_VERSION: tuple[str, ...] = (
    "size",
    "ETag",
    "Content-MD5",
    "Digest",
    "Last-Modified",
    "LastModified",
    "last_modified",
    "mtime",
)
_VERSION += ("md5Hash", "generation", "blob_id", "xet_hash", "checksum")
_SHA256 = "copy_sha256"  # of a copy's content, beside its version

_INDEX = ".index.json"  # the files of a URL and their versions


def is_url(data: str) -> bool:
    """Whether ``data`` has the form of a URL."""
    return re.match(r"[a-z][a-z0-9+.-]*://", data, re.IGNORECASE) is not None


def fetch_files(url: str, *, setting: str = "--data") -> Listing:
    """Copies of the data files at a URL: of a file, or for file systems that list them, a directory or glob pattern.

    If the server cannot be reached, the copies of an earlier time are used, and a note says so.

    Raises:
        UserError: there are no such files, or they cannot be fetched.
    """
    # The name is that of the URL without its secrets, of which a hash would be a trace, and which may change.
    directory = create_cache("downloads") / hashlib.sha256(redact(as_utf8(url)).encode()).hexdigest()[:32]
    directory.mkdir(exist_ok=True)
    offline = use_hub() if url.startswith("hf://") else ""
    index = directory / _INDEX
    with cache_lock(directory):  # the first process copies, the others wait
        try:
            copies = _fetch(url, directory, read_sealed(index) or {})
        except UserError:
            raise
        except Exception as error:  # every file system raises errors of its own
            copies = read_sealed(index) or {}
            is_whole = copies and all(_is_intact(directory / name, copies[name]) for name in copies)
            if not is_whole or _is_missing(error):
                reason = first_line(_network_error(error) or error).removesuffix(".")
                raise UserError(f"{setting} {url}: cannot be fetched: {reason}.{offline or _remedy(error)}") from None
            notes = [f"{url}: cannot be reached; the copy of an earlier time is used"]
        else:
            write_sealed(index, copies)
            notes = []
    if not copies:
        raise UserError(f"{setting} {url}: no file with a supported extension ({SUPPORTED}) found there.")
    return Listing([(directory / name, name) for name in sorted(copies)], notes)


def _fetch(url: str, directory: Path, copies: dict[str, Any]) -> dict[str, Any]:
    """Copy what is new or changed; name → version of every data file."""
    system, path = _file_system(url)
    found = {}
    for name, remote in _remote_files(system, path, url).items():
        info = system.info(remote)
        found[name] = {key: str(info[key]) for key in _VERSION if info.get(key) is not None}
        target = _below(directory, name, url)
        known = copies.get(name, {})
        # A size alone does not tell apart the contents of URLs that differ in what is not kept.
        is_known = redact(url) == url or bool(found[name].keys() - {"size"})
        if is_known and known == found[name] | {_SHA256: known.get(_SHA256)} and _is_intact(target, known):
            found[name] = known
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        system.get_file(remote, str(partial))
        if info.get("size") is not None and partial.stat().st_size != info["size"]:
            raise OSError(f"{remote} ended after {partial.stat().st_size:,} of {info['size']:,} bytes")
        found[name][_SHA256] = _content_sha256(partial)
        os.replace(partial, target)
    return found


def _is_intact(copy: Path, known: dict[str, Any]) -> bool:
    """Whether a copy is there, with the content that it had when it was taken."""
    if not copy.is_file():
        return False
    try:
        found = content_sha256(copy, check_file)  # from memory, unless the copy changed
    except UserError:  # not text, say: whoever reads it says so
        found = _content_sha256(copy)
    return found == known[_SHA256]


def _content_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _below(directory: Path, name: str, url: str) -> Path:
    """The path of a copy. Names come from a server, which may list some that lead out of the directory.

    Raises:
        UserError: this one does.
    """
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/") or "\0" in name or name == _INDEX:
        raise UserError(f"{url}: lists a file that is not below it: {name}. Name the files that you want.")
    return directory.joinpath(*parts)


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    options: dict[str, Any] = {}
    if url.lower().startswith(("http://", "https://")):
        import aiohttp

        # By default, aiohttp ends a download after five minutes, and ignores the environment's proxies.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    return fsspec.core.url_to_fs(url, **options)


def _remote_files(system: Any, path: str, url: str) -> dict[str, str]:
    """Name below the directory or pattern → path on the file system, of every data file there."""
    plain = PurePosixPath(urlsplit(path).path if is_url(path) else path)
    if find_format(Path(plain)) and not glob.has_magic(str(plain)):
        return {plain.name: path}
    if is_url(path):  # of http; listing means to follow the links of a page, whatever they lead to
        raise UserError(f"{url}: the name has no supported extension ({SUPPORTED}). Name the URL of a file.")
    files = system.glob(path) if glob.has_magic(path) else system.find(path)
    chosen = [PurePosixPath(file) for file in files if find_format(Path(file))]
    if not chosen:
        return {}
    root = os.path.commonpath([file.parent for file in chosen]) if glob.has_magic(path) else path
    named = {str(file.relative_to(root)): str(file) for file in chosen}
    return {name: file for name, file in named.items() if not any(p.startswith(".") for p in Path(name).parts)}


def _network_error(error: Exception) -> BaseException | None:
    """What fsspec hides behind "file not found" if a web server cannot be reached, or answers with an error."""
    return error.__cause__ if isinstance(error, FileNotFoundError) else None


def _is_missing(error: Exception) -> bool:
    """Whether the file is known not to be there."""
    cause = _network_error(error)
    if cause is None:
        return isinstance(error, FileNotFoundError)
    return getattr(cause, "status", None) in (404, 410)


def _remedy(error: Exception) -> str:
    if isinstance(error, ImportError):
        return ""  # says which package to install
    return " Check the URL and the network, or copy the files here and name their path."
