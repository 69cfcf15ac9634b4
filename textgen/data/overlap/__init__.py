"""Text that occurs twice: in held-out and training documents.

Read in this order: ``words.py`` (what a word is, and hashes of word n-grams), ``pieces.py`` (documents in pieces of
bounded size), ``held_out_ngrams.py`` (which n-grams of held-out documents occur in training documents) and
``contamination.py`` (the contaminated documents, with the text that they share).
"""
