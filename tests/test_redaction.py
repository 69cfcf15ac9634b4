"""Secrets are masked, and what is none stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.redaction import redact, redact_command

SECRET = "cAnArY-7f3a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://user:{SECRET}@host/a.txt", "https://***@host/a.txt"),
        (f"https://{SECRET}@host:8080/a.txt", "https://***@host:8080/a.txt"),
        (f"https:/user:{SECRET}@host/a.txt", "https:/***@host/a.txt"),  # as a Path has it
        (f"https://user:p@{SECRET}@host/a.txt", "https://***@host/a.txt"),
        (f"https://user:p/{SECRET}@host/a.txt", "https://***@host/a.txt"),
        (f"S3://user:{SECRET}@bucket/a", "S3://***@bucket/a"),
        (f"https://h/a.txt?token={SECRET}", "https://h/a.txt?token=***"),
        (f"https://h/a.txt?rows=5&access_token={SECRET}&b=c", "https://h/a.txt?rows=5&access_token=***&b=c"),
        (f"https://h/a?X-Amz-Signature={SECRET}&X-Amz-Date=1", "https://h/a?X-Amz-Signature=***&X-Amz-Date=1"),
        (f"https://h/a?AWSAccessKeyId={SECRET}", "https://h/a?AWSAccessKeyId=***"),
        (f"https://h/a?sig={SECRET}#key={SECRET}", "https://h/a?sig=***#key=***"),
        (f"--data https://h/a?token={SECRET}: cannot be fetched.", "--data https://h/a?token=***: cannot be fetched."),
        (f"('https://h/a?token={SECRET}').", "('https://h/a?token=***')."),
        (f"https://h/a.txt?key={SECRET}:0.5,b.txt:0.5", "https://h/a.txt?key=***:0.5,b.txt:0.5"),
        (f"https://u:{SECRET}@h/a:0.5,https://v:{SECRET}@h/b:0.5", "https://***@h/a:0.5,https://***@h/b:0.5"),
        ("hf_" + "aB3" * 10, "***"),
        ("see AKIA" + "Z7" * 8 + " there", "see *** there"),
        ("ghp_" + "aB3" * 12, "***"),
    ],
)
def test_secrets_are_masked(text, expected):
    assert redact(text, {}) == expected
    assert redact(expected, {}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/a@2x.txt?rows=100&max_tokens=5",
        "hf://datasets/org/name@main/a.txt",
        "a.jsonl:0.7,b/:0.3",
        "markov:seed=1",
        "top_k[10,20] someone@example.com",
        "runs/tiny-gpt2-full-python-reference-0123abcd",
        "0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact(text, {}) == text


def test_values_of_secret_variables_are_masked_wherever_they_are(tmp_path):
    environment = {"HF_TOKEN": SECRET, "WANDB_API_KEY": "w" * 40, "AWS_SECRET_ACCESS_KEY": "/a+" * 13}
    environment |= {"AWS_ACCESS_KEY_ID": "id-of-a-key", "PGPASSWORD": "short", "MY_PASSWORD": "correct horse"}
    for value in (SECRET, "w" * 40, "/a+" * 13, "id-of-a-key", "correct horse"):
        assert redact(f"x{value}y", environment) == "x***y"
    (tmp_path / "key").touch()
    others = {"SSH_KEY": str(tmp_path / "key"), "TOKENIZERS_PARALLELISM": "false", "PWD": "/home/someone"}
    text = f"{tmp_path / 'key'} false /home/someone short"
    assert redact(text, others | {"PGPASSWORD": "short"}) == text
    assert redact("a proxy-password b", {"HTTPS_PROXY": "http://me:proxy-password@proxy:3128"}) == "a *** b"


def test_the_longest_secret_is_masked_first():
    assert redact("abcdefgh-and-more", {"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefgh-and-more"}) == "***"


def test_a_command_keeps_its_flags():
    words = ["finetune.py", "--data", f"https://u:{SECRET}@h/a.txt", "--steps", "3", f"--api-key={SECRET}"]
    words += ["--token", SECRET, "--prompt-tokens", "8", "--special-tokens-in-text", f"HF_TOKEN={SECRET}", "--key"]
    expected = ["finetune.py", "--data", "https://***@h/a.txt", "--steps", "3", "--api-key=***"]
    expected += ["--token", "***", "--prompt-tokens", "8", "--special-tokens-in-text", "HF_TOKEN=***", "--key"]
    assert redact_command(words) == expected


@given(st.text(), st.sampled_from(["https://user:{}@host/{}", "{} https://h/x?token={}", "--password={}{}"]))
def test_masking_ends_and_does_not_change_twice(text, form):
    once = redact(form.format(text, text), {})
    assert redact(once, {}) == once
