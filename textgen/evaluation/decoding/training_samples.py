"""Sample texts during training (``--sample-every``): always the same prompts with the same random seeds.

All randomness is noise keyed by (seed, prompt, sample, position). So texts of different steps differ only because the
model does, and sampling does not affect training: it does not use the random number generators that training uses.
"""

from collections.abc import Sequence
from typing import Any

import torch

from textgen import signals
from textgen.data.document import Document
from textgen.data.tokenization import decode_text
from textgen.evaluation.batching import same_length_batches
from textgen.evaluation.config import EvaluationConfig
from textgen.evaluation.decoding.dispatch import before_end_of_text, decode
from textgen.evaluation.decoding.gumbel import NoiseKey
from textgen.evaluation.decoding.prefix.cache_support import report_limits
from textgen.evaluation.decoding.prompts import Prompt, select_prompts
from textgen.evaluation.decoding.strategies import STRATEGIES
from textgen.evaluation.exchange import stop_together
from textgen.evaluation.loaded_model import LoadedModel
from textgen.model.contexts import evaluating
from textgen.progress import progress

PROMPTS = 4
STRATEGY_NAMES = ("greedy", "top_p")  # the most probable tokens, and a random draw


class TextSampler:
    """Continues the beginnings of the first few validation documents.

    Args:
        loaded: the model being trained.
        documents: the validation documents.
        config: lengths of prompts and continuations.
        seed: random seed.

    Raises:
        UserError: no document has two tokens.
    """

    def __init__(
        self, loaded: LoadedModel, documents: Sequence[Document], config: EvaluationConfig, *, seed: int
    ) -> None:
        self.loaded, self.max_new_tokens, self.seed = loaded, config.max_new_tokens, seed
        lengths = {"prompt_tokens": config.prompt_tokens, "max_new_tokens": config.max_new_tokens}
        lengths["context"] = loaded.context
        self.prompts = select_prompts(documents, loaded.tokenizer, prompts=PROMPTS, **lengths)

    def __call__(self, step: int) -> list[dict[str, Any]]:
        """Rows for ``samples.jsonl`` at one step; see :func:`sample_texts`."""
        with progress("sampling texts"):
            return sample_texts(
                self.loaded, self.prompts, step=step, max_new_tokens=self.max_new_tokens, seed=self.seed
            )


def sample_texts(
    loaded: LoadedModel, prompts: Sequence[Prompt], *, step: int, max_new_tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Rows for ``samples.jsonl``: step, prompt_id, prompt, strategy, text; one per prompt and strategy.

    Every process decodes the same batches, so all get the same texts, regardless of the number of processes.

    Raises:
        Preempted: a process was told to stop.
    """
    texts: dict[tuple[str, str], str] = {}
    strategies = [STRATEGIES[name] for name in STRATEGY_NAMES]
    batches = same_length_batches([len(prompt.token_ids) for prompt in prompts])
    report_limits(loaded.model, loaded.name or "the model", strategies, loaded.accelerator.print)
    with evaluating(loaded.model), torch.no_grad():
        for strategy in strategies:
            for batch in batches:
                if signals.requested():
                    break
                batch_prompts = [prompts[index] for index in batch]
                ids = decode(
                    loaded.model,
                    strategy,
                    torch.tensor([prompt.token_ids for prompt in batch_prompts], device=loaded.device),
                    [NoiseKey(seed, prompt.id, 0) for prompt in batch_prompts],
                    max_new_tokens=max_new_tokens,
                    eos_token_id=loaded.eos_token_id,
                ).tolist()
                for prompt, tokens in zip(batch_prompts, ids, strict=True):
                    written = before_end_of_text(tokens, loaded.eos_token_id)
                    texts[prompt.id, strategy.name] = decode_text(loaded.tokenizer, written, skip_special_tokens=True)
    stop_together(loaded.accelerator)
    return [
        {
            "step": step,
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "strategy": strategy.name,
            "text": texts[prompt.id, strategy.name],
        }
        for prompt in prompts
        for strategy in strategies
    ]
