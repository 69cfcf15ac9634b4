"""A whole run with secrets in every place that a user may put them: none is in any byte that it writes or prints."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import LIGHT, QUICK, ROOT, tree

SERVER = """
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
CANARIES = {
    "HF_TOKEN": "hf_cAnArYhuggingfacecAnArYhugging",
    "WANDB_API_KEY": "cAnArYwandb0123456789cAnArYwandb01234567",
    "AWS_ACCESS_KEY_ID": "AKIACANARYCANARYCANA",
    "AWS_SECRET_ACCESS_KEY": "cAnArY/aws+secret/0123456789",
    "AWS_SESSION_TOKEN": "cAnArYsession==",
    "OPENAI_API_KEY": "sk-cAnArYopenaicAnArYopenai",
}
PASSWORD, TOKEN, OTHER = "cAnArYpassword", "cAnArYtoken", "cAnArYother"


@pytest.fixture
def address(text_file: Path, tmp_path: Path) -> Iterator[str]:
    """Of a server with the file texts.txt, with a user name and a password."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served/texts.txt").write_bytes(text_file.read_bytes())
    command = [sys.executable, "-c", SERVER, str(tmp_path / "served")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    yield f"http://someone:{PASSWORD}@127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()
    process.stdout.close()


def leaks(*places: Path, printed: str) -> list[str]:
    """Where a canary is: in the name or content of a file, or in what was printed."""
    canaries = [canary.encode() for canary in (*CANARIES.values(), PASSWORD, TOKEN, OTHER)]
    found = [f"{canary!r} was printed" for canary in canaries if canary in printed.encode()]
    for place in places:
        for name, content in tree(place).items():
            found += [f"{canary!r} in {name}" for canary in canaries if canary in name.encode() + content]
    return found


@pytest.fixture
def run(python, tmp_path):
    """Runs a recipe with secrets in the environment; returns its exit code and what it printed."""

    def run(recipe: str, *flags: object, **more: str) -> tuple[int, str]:
        own = {"TEXTGEN_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        own |= {f"WANDB_{kind}_DIR": str(tmp_path / f"wandb-{kind}") for kind in ("CACHE", "DATA", "CONFIG")}
        environment = os.environ | CANARIES | own | {"WANDB_MODE": "offline"} | more
        ran = python.run([ROOT / f"recipes/{recipe}.py", *flags], cwd=tmp_path, env=environment)
        return ran.code, ran.out + ran.error

    return run


@pytest.mark.slow
@pytest.mark.parametrize("tracking", [False, True])
def test_a_whole_run_writes_no_secret(run, address, tmp_path, tracking) -> None:
    url = f"{address}/texts.txt?rows=5&access_token={TOKEN}"
    flags = [flag for flag in QUICK if flag not in ("--wandb-mode", "disabled")] if tracking else list(QUICK)
    flags += ["--track", "wandb,tensorboard,trackio,mlflow"] if tracking else []
    flags += ["--strategies", "greedy", "--sample-every", "3", "--data", url, "--retain-data", f"{address}/texts.txt"]
    code, printed = run("finetune", *flags, "--run-dir", "run", "--validation-data", f"{url}&sig={OTHER}")
    assert code == 2, "all of it is also in --data"
    flags = flags[:-2]
    code, more = run("finetune", *flags, "--run-dir", "run")
    assert code == 0, more
    printed += more
    files = tree(tmp_path / "run")
    for name in ("config.yaml", "environment.json", "README.md", "report.html", "model/model.safetensors"):
        assert name in files
    assert b"//***@127.0.0.1" in files["config.yaml"]
    assert b"//***@127.0.0.1" in files["environment.json"]
    assert b"rows=5&access_token=***" in files["config.yaml"]
    _, more = run("finetune", *flags, "--run-dir", "run")
    assert "already complete" in more
    printed += more
    assert not tracking or ((tmp_path / "mlflow").is_dir() and (tmp_path / "trackio").is_dir())
    kept = [tmp_path / name for name in ("run", "cache", "wandb-CACHE", "wandb-DATA", "wandb-CONFIG")]
    kept += [tmp_path / name for name in ("mlflow", "trackio")]
    assert (tmp_path / "cache/downloads").is_dir()
    assert not leaks(*(place for place in kept if place.exists()), printed=printed)


def test_a_run_goes_on_with_another_token_and_not_without(run, address, tmp_path) -> None:
    def flags(token: str) -> list[str]:
        return [*LIGHT, "--data", f"{address}/texts.txt?token={token}"]

    code, printed = run("finetune", *flags(TOKEN))
    assert code == 0, printed
    [directory] = (tmp_path / "runs").iterdir()
    assert directory.name.startswith("tiny-gpt2-full-texts-")
    code, again = run("finetune", *flags(OTHER))
    assert f"already complete: {directory.relative_to(tmp_path)}" in again
    code, message = run("finetune", "--config", directory / "config.yaml", "--run-dir", "other")
    assert code == 2
    assert "the password or token in it was not kept" in message
    assert "Give --data again, with the secret." in message
    code, last = run("finetune", "--config", directory / "config.yaml", *flags(OTHER)[-2:])
    assert "already complete" in last
    assert not leaks(tmp_path / "runs", tmp_path / "cache", printed=printed + again + message + last)


@pytest.mark.parametrize(
    "flags",
    [
        "--data {address}/no-such.txt?token={token}",
        "--data {address}/no-format?token={token}",
        "--data https://someone:{password}@127.0.0.1:1/a.txt?key={token}",
        "--data ftp://someone:{password}@127.0.0.1:1/a.txt",
        "--data nonsense://someone:{password}@host/a.txt",
        "--data {address}/texts.txt?sig={token}:0.5,{address}/texts.txt?sig={token}:0.5",
        "--validation-data {address}/no-such.txt?token={token} --data {address}/texts.txt",
        "--model https://someone:{password}@host/model",
        "--model {hf}",
        "--judge {hf}",
        "--config {address}/settings.yaml",
        "--prompts {hf} --strategies {hf}",
        "--resume https://someone:{password}@host/a",
        "--lora-targets {hf} --method lora",
        "--wandb-project {hf} --steps 0",
        "--optimizer {hf}",
        "--no-such-flag {hf} --token {token}",
        "--chat-template https://someone:{password}@host/a",
        "--run-dir /proc/{hf}",
    ],
)
def test_no_error_message_has_a_secret(run, address, tmp_path, flags) -> None:
    values = {"address": address, "token": TOKEN, "password": PASSWORD, "hf": CANARIES["HF_TOKEN"]}
    words = shlex.split(flags.format(**values))
    directory = [] if "--run-dir" in words else ["--run-dir", "run"]
    code, printed = run("finetune", *LIGHT, *directory, *words)
    assert code == 2, printed
    assert "Traceback" not in printed
    places = [tmp_path / name for name in ("run", "cache") if (tmp_path / name).exists()]
    assert not leaks(*places, printed=printed)
