"""Perplexity with its uncertainty, and a paired comparison of decoding strategies."""
