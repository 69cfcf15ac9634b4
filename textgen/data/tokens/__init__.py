"""The cache of tokenized text: built in one pass over the documents, and memory-mapped by every process.

``build.py`` tokenizes documents into files; ``journal.py`` lets it resume after it was killed. ``entry.py`` makes a
directory of files an entry of the cache, which is complete or absent. ``held_out.py`` reads held-out documents one at a
time.
"""
