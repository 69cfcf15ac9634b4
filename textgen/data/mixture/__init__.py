"""Several sources with weights, as in ``--data a.jsonl:0.7,b/:0.3``.

``parts.py`` parses that; ``draws.py`` says which part each block of a run comes from, ``streams.py`` finds the block in
that part's tokens, and ``joined.py`` has the held-out documents of all parts.
"""
