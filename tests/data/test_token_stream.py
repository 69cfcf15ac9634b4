"""Blocks of a stream of documents: which tokens are targets, and where positions start again."""

import numpy as np
import torch

from textgen.data.blocks import BlockSpans
from textgen.data.token_stream import IGNORED, Microbatch, TokenStream


def test_with_two_marks_the_one_before_a_document_is_no_target():
    # begin 5 end, begin 6 7 end
    stream = TokenStream(np.array([1, 5, 2, 1, 6, 7, 2]), np.array([1, 4]), shared_mark=False)
    ids, labels, positions = stream.block(np.array([0, 7]), 8, isolated=True)
    assert ids.tolist() == [1, 5, 2, 1, 6, 7, 2, 0]
    assert labels.tolist() == [IGNORED, 5, 2, IGNORED, 6, 7, 2, IGNORED]
    assert positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert stream.targets(np.array([0, 7])) == 5
    alone = BlockSpans(7, 8, stream.offsets, shared_mark=False)
    assert [span.tolist() for span in alone] == [[0, 3], [3, 7]]


def test_between_edges_tokens_are_context_only():
    ids = np.arange(10)
    for edges, context_only in (
        ([], []),
        ([0, 10], range(10)),
        ([2, 4], [2, 3]),
        ([2, 4, 4, 6], [2, 3, 4, 5]),  # a prompt right after a document that ends without a target
        ([1, 3, 7, 12], [1, 2, 7, 8, 9]),
    ):
        stream = TokenStream(ids, np.array([1]), np.array(edges, np.int64))
        for start in range(10):
            for end in range(start + 1, 11):
                _, labels, _ = stream.block(np.array([start, end]), end - start)
                expected = [IGNORED if token in context_only else token for token in range(start, end)]
                assert labels.tolist() == expected
                assert stream.targets(np.array([start, end])) == sum(label != IGNORED for label in expected[1:])


def test_a_microbatch_has_positions_only_if_documents_are_isolated():
    ids = torch.zeros(1, 3, dtype=torch.long)
    device = torch.device("cpu")
    assert len(Microbatch(0, ids, ids).inputs(device)) == 2
    assert len(Microbatch(0, ids, ids, ids).inputs(device)) == 3
