"""Whether examples of a task can be trained on and scored, known from a few rows before anything expensive starts."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from textgen.data.config import DataConfig
from textgen.data.document import Document
from textgen.data.sources import read_documents
from textgen.data.split import is_held_out
from textgen.errors import collect_problems
from textgen.evaluation.config import EvaluationConfig
from textgen.plan.sample_data import Samples

if TYPE_CHECKING:  # imports transformers
    from textgen.model.locate import FoundModel

_SHOWN = 2
_TRIED_TOGETHER = 64


def convention_conflicts(config: DataConfig, evaluation: EvaluationConfig, samples: Samples) -> list[str]:
    """Examples whose prompts the convention of perplexity would score, one message for each flag that names them."""
    if evaluation.convention != "strided" or config.loss_on != "completion":
        return []
    return [
        f"--convention strided with {sample.name}: it joins the documents into one text, in which the prompts of "
        "examples would be scored too. Use --convention rolling, or --loss-on all."
        for sample in samples.scored()
        if sample.examples
    ]


def template_problems(samples: Samples, models: Mapping[str, "FoundModel"]) -> list[str]:
    """Chats that a model has no valid chat template for, one message each.

    Args:
        samples: the first rows of the data.
        models: the models that are trained or measured.
    """
    from textgen.data.examples.chat import check_template

    problems: list[str] = []
    chats = [sample.name for sample in samples.every() if sample.has_chats]
    for model in models.values():
        if not (chats or model.config.chat_template):
            continue
        if not model.tokenizer.chat_template:
            problems.append(
                f"{model.setting} {model.config.model}: its tokenizer has no chat template, which the chats of "
                f"{' and '.join(chats)} need. Give one with --chat-template FILE, or use a chat model."
            )
        with collect_problems(problems):
            check_template(model.tokenizer, _template(model))
    return list(dict.fromkeys(problems))


def target_problems(samples: Samples, models: Mapping[str, "FoundModel"]) -> list[str]:
    """Examples whose targets are not what a model should learn, one message for each kind and flag.

    Args:
        samples: the first rows of the data, whose chats the models have templates for.
        models: the models that are trained or measured.
    """
    from textgen.data.examples.audit import audit_problems

    problems: list[str] = []
    for model in models.values():
        for sample in samples.every():
            learns = samples.train is not None and sample is not samples.retained
            with collect_problems(problems):
                problems += audit_problems(
                    model.tokenizer,
                    sample.examples,
                    data=sample.name,
                    template=_template(model),
                    training=learns,
                )
    return list(dict.fromkeys(problems))


def prompt_problems(
    config: DataConfig, evaluation: EvaluationConfig, samples: Samples, models: Mapping[str, "FoundModel"]
) -> list[str]:
    """Examples whose prompts do not fit into a model's context with a continuation, if that is so for all of them."""
    held_out = samples.held_out
    problems: list[str] = []
    for model in models.values() if held_out.examples else ():
        documents = read_documents(held_out.sources, config, setting=held_out.setting)
        with collect_problems(problems):
            if not _some_prompt_fits(documents, model, evaluation):
                problems.append(
                    f"--max-new-tokens {evaluation.max_new_tokens}: with as many tokens after it, none of the prompts "
                    f"of {held_out.name} fits into the context of {model.setting} {model.config.model}, "
                    f"{model.context} tokens. Lower it, or use --skip-decoding."
                )
    return problems


def _some_prompt_fits(documents: Iterator[Document], model: "FoundModel", evaluation: EvaluationConfig) -> bool:
    from textgen.data.examples.encode import encode_documents
    from textgen.evaluation.decoding.prompts import select_prompts

    lengths = {"prompt_tokens": evaluation.prompt_tokens, "max_new_tokens": evaluation.max_new_tokens}
    while some := list(islice(documents, _TRIED_TOGETHER)):
        encode_documents(model.tokenizer, some)  # a chat that cannot be written has an error of its own
        none_fits: list[str] = []
        with collect_problems(none_fits):
            select_prompts(some, model.tokenizer, prompts=1, context=model.context, **lengths)
        if not none_fits:
            return True
    return False


def describe_targets(config: DataConfig, samples: Samples, tokenizer: Any) -> list[str]:
    """Lines that show two training examples, and one of each kind of held-out ones that is not among these.

    Raises:
        UserError: a chat cannot be written by the tokenizer's template.
    """
    from textgen.data.examples.audit import CLOSE, OPEN, show_examples

    if samples.train is None:
        return []
    fraction = config.validation_fraction if samples.held_out is samples.train else 0.0
    trained = [one for one in samples.train.examples if not is_held_out(one, fraction)] or samples.train.examples
    shown = _first_of_each_kind(trained)
    shown += [one for one in trained if one not in shown][: max(0, _SHOWN - len(shown))]
    kinds = {bool(one.messages) for one in samples.train.examples}
    others = [one for one in _first_of_each_kind(samples.held_out.examples) if bool(one.messages) not in kinds]
    lines = []
    if shown:
        lines += [f"what is trained on, between {OPEN} and {CLOSE}:", *show_examples(tokenizer, shown)]
    if others:
        lines += [f"what is scored of {samples.held_out.name}:", *show_examples(tokenizer, others, training=False)]
    return lines


def _first_of_each_kind(examples: Sequence[Document]) -> list[Document]:
    by_kind: dict[bool, Document] = {}
    for one in examples:
        by_kind.setdefault(bool(one.messages), one)
    return list(by_kind.values())


def _template(model: "FoundModel") -> str:
    if model.config.chat_template:
        return f"--chat-template {model.config.chat_template}"
    return f"{model.setting} {model.config.model}, its chat template"
