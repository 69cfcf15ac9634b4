"""How much is trained on, against the labels of the blocks themselves."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgen.data import mask_coverage as mask_coverage_module
from textgen.data.blocks import GlobalBatches
from textgen.data.config import DataConfig
from textgen.data.corpus import load_corpus
from textgen.data.mask_coverage import count_cut, mask_coverage
from textgen.data.mixed_corpus import load_training_data
from textgen.data.token_stream import IGNORED, TokenStream

DOCUMENTS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=9)


def stream_of(documents, *, shared_mark):
    """Documents of (prompt, completion) tokens, whose ids are their positions."""
    offsets, edges = [], []
    length = 1 if shared_mark else 0
    for prompt, completion in documents:
        length += 0 if shared_mark else 1
        offsets.append(length)
        edges += [length, length + prompt] if prompt else []
        length += prompt + completion + 1
    return TokenStream(np.arange(length), np.array(offsets), np.array(edges, np.int64), shared_mark)


@given(DOCUMENTS, st.integers(2, 12), st.booleans(), st.sampled_from(["none", "joined"]))
def test_cut_documents_are_counted_as_the_blocks_have_them(documents, block_size, shared_mark, packing):
    stream = stream_of(documents, shared_mark=shared_mark)
    sizes = {"block_size": block_size, "global_batch_size": 1, "microbatch_size": 1, "seed": 0, "packing": packing}
    batches = GlobalBatches(stream, **sizes)
    blocks = []  # the positions that are targets, of each block
    for index in range(batches.blocks):
        span = batches.spans[np.array([index])][0]
        ids, labels, _ = stream.block(span, block_size)
        blocks.append((set(ids[: span[1] - span[0]].tolist()), set(labels[1:][labels[1:] != IGNORED].tolist())))
    cut = without = 0
    for (prompt, completion), start in zip(documents, stream.offsets.tolist(), strict=True):
        targets = set(range(start + prompt, start + prompt + completion + 1))
        seen = [targets & own for _, own in blocks]
        assert sum(map(len, seen)) == len(targets), "each target once"
        if not prompt:
            continue
        whole = set(range(start - 1, start + prompt + completion + 1))
        cut += not any(whole <= ids for ids, _ in blocks)
        first = next(ids for ids, own in blocks if start + prompt in own)
        without += not set(range(start - 1, start + prompt)) <= first
    for at_a_time in (1, 2, 1000):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(mask_coverage_module, "_AT_A_TIME", at_a_time)
            assert count_cut(stream, block_size, whole=packing == "none") == (cut, without)


def test_the_coverage_of_a_corpus(write, tokenizer):
    rows = [{"prompt": "Two? " * (30 if i == 3 else 1), "completion": f"{i}" if i % 5 else " "} for i in range(50)]
    path = write("a.jsonl", "\n".join(map(json.dumps, rows)))
    held_out = write("b.jsonl", json.dumps({"prompt": "Two? ", "completion": "2"}))
    corpus = load_corpus(DataConfig(data=str(path), validation_data=str(held_out)), tokenizer)
    found = mask_coverage(corpus, 32, "none")
    assert (found.documents, found.examples, found.left_out, found.untargeted) == (40, 40, 10, 0)
    assert (found.cut, found.without_prompt) == (1, 1)
    assert found.tokens == len(corpus.tokens)
    batches = GlobalBatches(
        corpus.stream, block_size=32, global_batch_size=1, microbatch_size=1, seed=0, packing="none"
    )
    assert found.targets == sum(batches.targets(step) for step in range(1, batches.steps_per_epoch + 1))
    assert corpus.facts()["train_targets"] == found.targets
    assert corpus.counts.first_left_out == "a.jsonl#0 (row 1 of a.jsonl): the completion is blank"


def test_a_token_before_each_document_is_no_target(write, tokenizer_with):
    tokenizer = tokenizer_with(eos_token="<|endoftext|>", bos_token="<mark>")
    path = write("a.jsonl", "\n".join(json.dumps({"prompt": f"{i}? ", "completion": "x"}) for i in range(40)))
    corpus = load_corpus(DataConfig(data=str(path)), tokenizer)
    assert mask_coverage(corpus, 32, "none").targets == 2 * corpus.documents == corpus.facts()["train_targets"]


def test_a_mixture_is_the_sum_of_its_parts(write, tokenizer):
    row = json.dumps({"prompt": "Two? ", "completion": "2"})
    write("a.jsonl", "\n".join([row, json.dumps({"prompt": "a", "completion": ""})]))
    write("b.jsonl", "\n".join([json.dumps({"text": "Some plain text."})] * 3))
    held_out = write("c.jsonl", json.dumps({"text": "Held out."}))
    folder = held_out.parent
    data = f"{folder}/a.jsonl:0.5,{folder}/b.jsonl:0.5"
    corpus = load_training_data(DataConfig(data=data, validation_data=str(held_out)), tokenizer)
    found = mask_coverage(corpus, 32, "joined")
    assert (found.documents, found.examples, found.left_out) == (4, 1, 1)
    assert found.targets == corpus.facts()["train_targets"]


def test_texts_have_none(config, tokenizer):
    assert mask_coverage(load_corpus(config(), tokenizer), 16, "joined") is None


@pytest.mark.parametrize("whole", [True, False])
def test_without_prompts_nothing_is_cut(whole):
    assert count_cut(stream_of([(0, 50)], shared_mark=True), 4, whole=whole) == (0, 0)
