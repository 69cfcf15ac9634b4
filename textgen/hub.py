"""Whether the Hugging Face hub can be reached, found out in seconds.

Without a network, the hub's client tries each of several files again and again, for half a minute in all, before it
looks into its cache.
"""

import os
import socket
import sys
import threading
from functools import cache
from urllib.parse import urlsplit

_SECONDS = 5.0  # for the name and the connection
_YES = {"1", "ON", "YES", "TRUE"}  # the values that the hub's client accepts


def use_hub() -> str:
    """Call this before the libraries look for a model or dataset on the hub.

    If the hub cannot be reached, ``HF_HUB_OFFLINE`` is set for this process, so that they use what is in the hub's
    cache, or fail at once.

    Returns:
        Why the hub is not used, and what to do, for the error message in case the cache does not have it; empty if the
        hub is used.
    """
    if is_offline():
        return " HF_HUB_OFFLINE is set: unset it, or name a local path."
    host = _unreachable()
    if not host:
        return ""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for library in ("huggingface_hub.constants", "datasets.config"):  # these read the variable when they are imported
        if library in sys.modules:
            sys.modules[library].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    return f" {host} cannot be reached: check the network, or name a local path."


def is_offline() -> bool:
    """Whether the user told the hub's client to use what was downloaded before only."""
    return any(os.environ.get(name, "").upper() in _YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def hub_address() -> str:
    """The address of the hub."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def unreachable_host(address: str) -> str:
    """The host of an address if it cannot be reached within seconds; empty if it can, or if a proxy is between."""
    if any(os.environ.get(name) or os.environ.get(name.lower()) for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")):
        return ""
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    reached = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=_SECONDS).close()
        except OSError:
            pass
        else:
            reached.set()

    thread = threading.Thread(target=connect, daemon=True)  # looking up a name has no timeout of its own
    thread.start()
    thread.join(_SECONDS)
    return "" if reached.is_set() else host or address


@cache
def _unreachable() -> str:
    """The hub's host if it cannot be reached."""
    return unreachable_host(hub_address())
