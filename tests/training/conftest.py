"""Processes started within a test, without effect on later tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def start(accelerator: Any) -> Iterator[Callable[..., Any]]:
    """``start("fp16", exact=True)`` returns a new accelerator. The global state that it sets is restored afterwards."""
    from accelerate.state import AcceleratorState, PartialState

    from textgen.training.distributed.processes import start_process

    saved = [(state, dict(state._shared_state)) for state in (AcceleratorState, PartialState)]
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    def start_anew(precision: str, *, threads: int = 1, exact: bool = False) -> Any:
        AcceleratorState._reset_state(reset_partial_state=True)
        return start_process(threads, precision=precision, exact=exact)

    yield start_anew
    for state, shared in saved:
        state._shared_state.clear()
        state._shared_state.update(shared)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
