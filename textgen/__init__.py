"""textgen: fine-tune a causal language model, then say honestly how good it is."""

__version__ = "0.1.0"
