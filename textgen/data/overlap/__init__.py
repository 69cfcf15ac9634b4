"""Text that occurs twice: in held-out and training documents, or in two training documents.

Read in this order: ``words.py`` (what a word is, and hashes of word n-grams), ``pieces.py`` (documents in pieces of
bounded size), ``held_out_ngrams.py`` (which n-grams of held-out documents occur in training documents),
``contamination.py`` (the contaminated documents, with the text that they share), ``near_duplicates.py`` (training
documents that nearly equal an earlier one) and ``contamination_cache.py`` (both, computed once for the same data).
``validation_overlap.py`` checks that the text of ``--validation-data`` is not in ``--data``.
"""
