"""Running peft without its warnings, and without the libraries that it imports only because they are installed."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import is_bitsandbytes_available


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Run code of peft without its warnings, and without bitsandbytes unless that is already imported.

    Its warnings are about its own use of transformers. If bitsandbytes is installed, peft imports it, and with it
    torch's compiler: that takes a second and 50 MB.
    """
    logging.getLogger("peft").setLevel(logging.ERROR)
    with warnings.catch_warnings(), _hide_bitsandbytes():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def _hide_bitsandbytes() -> Iterator[None]:
    if "bitsandbytes" in sys.modules:
        yield
        return
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # makes Python raise ImportError
    try:
        yield
    finally:
        del sys.modules["bitsandbytes"]
        from peft.import_utils import is_bnb_4bit_available, is_bnb_available

        for check in (is_bnb_available, is_bnb_4bit_available, is_bitsandbytes_available):
            check.cache_clear()
