"""Secrets in text, masked before it is printed or written: in URLs, on command lines, and from the environment."""

import os
import re
from collections.abc import Mapping, Sequence

MASK = "***"

_SHORTEST = 8  # characters of a variable's value; a shorter one, such as "true", may be a word of any text

# A name of a secret, as a part of a longer name. In "max_tokens", "tokens" are none.
_PART = r"(?:token(?!s)|secret|passw|passphrase|api[-_]?key|access[-_]?key|private[-_]?key|signature|credential"
_PART += r"|authorization|session)"
_WORD = r"(?:key|pass|pwd|pw|auth|sig|jwt|sas|code|bearer|apikey|pat)"  # the same, as a whole word of a name
_NAME = rf"(?:[\w.-]*{_PART}[\w.-]*|(?:[\w.-]*[-_.])?{_WORD}(?:[-_.][\w.-]*)?)"

# Variables of the environment with a secret, such as HF_TOKEN, WANDB_API_KEY and AWS_SECRET_ACCESS_KEY.
_VARIABLE = re.compile(r"(?:^|_)(?:TOKEN|(?:API)?KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PAT)(?:_|$)")

# scheme://user:password@host. A password may contain what should have been encoded, so the last @ of the authority
# counts; and "/", unless the text before it is a port.
_USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]*:/{1,3})(?:[^\s/?#]*@|[^\s/@:]+:(?!\d+[/?#])[^\s@]*@)", re.IGNORECASE)

# ?name=value. The value ends before punctuation of a sentence, and before the weight of a part of a mixture.
_END = r"(?=[:.;)\]}'\">]*(?::(?:\d?\.\d+|\d))?(?:[&#\s,]|$))"
_PARAMETER = re.compile(rf"([?&#;]{_NAME}=)[^&#\s,]+?{_END}", re.IGNORECASE)

# Secrets whose form is known: of Hugging Face, GitHub, GitLab, OpenAI, AWS, Google, Slack, W&B; and JSON Web Tokens.
_FORM = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|ya29\.[\w-]+|xox[abeprs]-[\w-]{10,}|wandb_v\d_\w{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
_SECRET_FLAG = re.compile(rf"--?{_NAME}", re.IGNORECASE)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Text with ``***`` in place of secrets.

    Secrets are user names and passwords in URLs, parameters of URLs that are called like secrets (``?token=``), text
    that has the form of a well-known access token, and the values of environment variables that are called like secrets
    (``HF_TOKEN``). What was redacted once does not change again.

    Args:
        text: what would be printed or written.
        environment: environment variables; those of this process by default.
    """
    for secret in _secrets(os.environ if environment is None else environment):
        text = text.replace(secret, MASK)
    if "/" in text:
        text = _USER_INFO.sub(rf"\1{MASK}@", text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\1{MASK}", text)
    return _FORM.sub(MASK, text)


def redact_command(words: Sequence[str]) -> list[str]:
    """A command line without secrets: every flag stays, and so does every value that is none."""
    found: list[str] = []
    for i, word in enumerate(words):
        name, is_assignment, _ = word.partition("=")
        before = words[i - 1] if i else ""
        if is_assignment and (_SECRET_FLAG.fullmatch(name) or _VARIABLE.search(name)):
            found.append(f"{name}={MASK}")
        elif not word.startswith("-") and _SECRET_FLAG.fullmatch(before):
            found.append(MASK)
        else:
            found.append(redact(word))
    return found


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Values of the environment that are secret, the longest first, since one may contain another."""
    found = set()
    for name, value in environment.items():
        if _VARIABLE.search(name.upper()):
            if not os.path.exists(os.path.expanduser(value)):  # SSH_KEY may name a file
                found.add(value)
        elif "@" in value:  # such as the password in HTTPS_PROXY
            found |= {user.partition(":")[2] for user in re.findall(r"://([^\s/?#]*)@", value)}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)
