"""The figures of the report, as inline SVG that follows the page's colors, light or dark.

``svg.py`` has the style and the conversion to SVG. ``curves.py`` draws losses and perplexities, ``tokens.py`` loss by
context length and calibration, ``decoding.py`` the decoding strategies, with ``labels.py`` to name their points.
"""
