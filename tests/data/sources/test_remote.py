"""Files named by URL, from a web server in a process of its own, and from a file system in memory."""

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from reading import error_message, texts

from textgen.data.cache import cache_directory
from textgen.data.config import DataConfig
from textgen.data.sources import find_data
from textgen.data.sources.remote import fetch_files, is_url
from textgen.errors import UserError

SERVER = """
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[subprocess.Popen[str], Path, str]]:
    """A web server: its process, the directory that it serves, and its address."""
    (tmp_path / "served").mkdir()
    command = [sys.executable, "-c", SERVER, str(tmp_path / "served")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    yield process, tmp_path / "served", f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True) if system.ls("/") else None


def test_a_file_is_read_from_its_url(server):
    _, served, address = server
    (served / "a b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    expected = {"a b.jsonl.gz#0": "one", "a b.jsonl.gz#1": "two"}
    assert texts(f"{address}/a b.jsonl.gz") == expected
    (served / "plays.txt").write_text("one\n\ntwo", encoding="utf-8")
    assert texts(f"{address}/plays.txt?download=1") == {"plays.txt#0": "one", "plays.txt#1": "two"}


def test_the_fingerprint_is_that_of_the_content(server):
    _, served, address = server
    (served / "plays.txt").write_text("one", encoding="utf-8")
    remote, local = (find_data(DataConfig(data=str(data))) for data in (f"{address}/plays.txt", served / "plays.txt"))
    assert remote.fingerprint == local.fingerprint


def test_a_copy_is_taken_once_for_each_version(server):
    _, served, address = server
    (served / "plays.txt").write_text("one", encoding="utf-8")
    [(copy, _)] = fetch_files(f"{address}/plays.txt").files
    first = copy.stat()
    assert fetch_files(f"{address}/plays.txt").files == [(copy, "plays.txt")]
    assert copy.stat() == first
    (served / "plays.txt").write_text("two", encoding="utf-8")
    os.utime(served / "plays.txt", (time.time() + 10, time.time() + 10))
    assert texts(f"{address}/plays.txt") == {"plays.txt#0": "two"}


@pytest.mark.parametrize("name", ["plays.txt", ".index.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"onf two", b"on\xe9 two"])
def test_a_damaged_copy_is_fetched_again_or_refused(server, name, content):
    process, served, address = server
    (served / "plays.txt").write_text("one two", encoding="utf-8")
    [(copy, _)] = fetch_files(f"{address}/plays.txt").files

    def damage() -> None:
        path = copy.parent / name
        path.unlink() if content is None else path.write_bytes(content)

    damage()
    assert texts(f"{address}/plays.txt") == {"plays.txt#0": "one two"}
    damage()
    process.kill()
    process.wait()
    message = error_message(f"{address}/plays.txt")
    assert message.startswith(f"--data {address}/plays.txt: cannot be fetched: ")


def test_without_the_server_the_copy_is_used_and_a_note_says_so(server):
    process, served, address = server
    (served / "plays.txt").write_text("one", encoding="utf-8")
    assert fetch_files(f"{address}/plays.txt").notes == []
    process.kill()
    process.wait()
    found = find_data(DataConfig(data=f"{address}/plays.txt"))
    assert found.notes == (f"{address}/plays.txt: cannot be reached; the copy of an earlier time is used",)
    assert len(texts(f"{address}/plays.txt")) == 1
    message = error_message(f"{address}/other.txt")
    assert message.startswith(f"--data {address}/other.txt: cannot be fetched: ")
    assert message.endswith("Check the URL and the network, or copy the files here and name their path.")


def test_what_is_not_there_is_an_error_that_names_the_url(server):
    _, served, address = server
    assert error_message(f"{address}/a.txt").startswith(f"--data {address}/a.txt: cannot be fetched: ")
    assert f"{address}/: the name has no supported extension" in error_message(f"{address}/")
    (served / "a.txt").write_bytes(b"caf\xe9")
    message = error_message(f"{address}/a.txt")
    assert "a.txt: not UTF-8 at byte 3 (0xe9)" in message
    assert not list(cache_directory("downloads").rglob("*.partial"))


def test_a_directory_or_pattern_of_a_file_system_is_all_data_files_in_it(memory):
    for name in ("a.txt", "b/c.jsonl", "b/d.txt", "b/.hidden/x.txt", "readme.md"):
        memory.pipe_file(f"/texts/{name}", b'{"text": "json"}' if name.endswith("jsonl") else name.encode())
    expected = {"a.txt#0": "a.txt", "b/c.jsonl#0": "json", "b/d.txt#0": "b/d.txt"}
    assert texts("memory://texts") == expected
    assert texts("memory://texts/**/*.txt") == {"a.txt#0": "a.txt", "b/d.txt#0": "b/d.txt"}
    assert "no file with a supported extension" in error_message("memory://texts/b/*.csv")


def test_what_is_secret_in_a_url_is_kept_nowhere_and_may_change(server):
    _, served, address = server
    (served / "plays.txt").write_text("one", encoding="utf-8")
    secret = address.replace("http://", "http://someone:cAnArY@")
    [(copy, name)] = fetch_files(f"{secret}/plays.txt?token=cAnArY").files
    assert name == "plays.txt"
    assert fetch_files(f"{secret}/plays.txt?token=another").files == [(copy, name)]
    kept = [path for path in cache_directory("downloads").rglob("*") if path.is_file()]
    assert kept
    assert not any(b"cAnArY" in os.fsencode(path) + path.read_bytes() for path in kept)
    message = error_message(f"{secret}/b.txt?token=cAnArY")
    assert f"--data {address.replace('//', '//***@')}/b.txt?token=***: cannot be fetched: " in message
    assert "cAnArY" not in message


def test_a_file_without_a_version_is_fetched_again_for_the_sake_of_another_secret(server, monkeypatch):
    from fsspec.implementations.http import HTTPFileSystem

    _, served, address = server

    async def info(*_: object, **__: object) -> dict[str, object]:
        return {"type": "file", "size": 3}

    monkeypatch.setattr(HTTPFileSystem, "_info", info)
    monkeypatch.setattr(HTTPFileSystem, "cachable", False)
    for content in ("one", "two"):
        (served / "a.txt").write_text(content, encoding="utf-8")
        assert texts(f"{address}/a.txt?key={content}") == {"a.txt#0": content}


@pytest.mark.parametrize("name", ["../../escaped.txt", "b/../../escaped.txt", "/etc/escaped.txt"])
def test_names_that_a_server_lists_do_not_lead_out_of_the_cache(memory, monkeypatch, name):
    memory.pipe_file("/texts/a.txt", b"one")
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "find", lambda *_, **__: [f"/texts/{name}"])
        message = error_message("memory://texts")
    assert "memory://texts: " in message
    assert not list(cache_directory("downloads").parent.rglob("*escaped*"))
    assert not Path("/etc/escaped.txt").exists()


def test_a_data_file_may_be_called_index(server):
    _, served, address = server
    (served / "index.json").write_text('{"text": "one"}', encoding="utf-8")
    for _ in range(2):
        assert texts(f"{address}/index.json") == {"index.json#0": "one"}


def test_a_protocol_whose_package_is_missing_names_it():
    fsspec.register_implementation("missing", "no_such_package.System", errtxt="Install no_such_package")
    assert error_message("missing://a.txt") == "--data missing://a.txt: cannot be fetched: Install no_such_package."
    assert "cannot be fetched: Protocol not known: nonsense" in error_message("nonsense://a.txt")


def test_the_hub_without_a_network_is_refused_at_once():
    with pytest.raises(UserError, match=r"--data hf://datasets/a/b/c.txt: cannot be fetched: .*HF_HUB_OFFLINE is set"):
        fetch_files("hf://datasets/a/b/c.txt")


def test_only_names_with_a_protocol_are_urls():
    assert all(map(is_url, ("https://a/b", "hf://datasets/a", "S3://b/c", "memory://x")))
    assert not any(map(is_url, ("a::b.txt", "c:foo.txt", "some-one/data", "./a://b", "markov:seed=1")))
