"""Small models with a context of 32 tokens, and scoring documents with them."""

from collections.abc import Callable
from typing import Any

import pytest
from perplexity_examples import CONTEXT, DOCUMENTS


@pytest.fixture(scope="session")
def gpt2(tiny_gpt2) -> Any:
    return tiny_gpt2(n_positions=CONTEXT, initializer_range=0.3)


@pytest.fixture(scope="session")
def llama(tiny_llama) -> Any:
    return tiny_llama(max_position_embeddings=CONTEXT, initializer_range=0.3)


@pytest.fixture(scope="session")
def score(accelerator, tokenizer) -> Callable[..., list[Any]]:
    """``score(model, "strided", stride=8)``: the scores of the example documents, or of other ``documents``."""
    from textgen.evaluation.loaded_model import LoadedModel
    from textgen.evaluation.perplexity.measure_perplexity import score_documents
    from textgen.evaluation.perplexity.windows import WindowSettings

    def run(
        model,
        convention="rolling",
        *,
        context=CONTEXT,
        stride=None,
        documents=DOCUMENTS,
        tokenizer=tokenizer,
        accelerator=accelerator,
        **options,
    ):
        settings = WindowSettings.resolve(convention, context, stride)
        return score_documents(LoadedModel(accelerator, model, tokenizer, context), documents, settings, **options)

    return run


@pytest.fixture(scope="session")
def nlls(score) -> Callable[..., list[float]]:
    """The same, but only the nll of each document."""
    return lambda *args, **options: [one.nll for one in score(*args, **options)]
