"""Examples of tasks: prompts with completions, and chats.

Start with ``rows.py`` (rows of a table → documents), then ``encode.py`` (documents → token ids and which of them are
targets), with ``encode_parts.py`` (the ids of a text in parts), ``chat.py`` (the tokenizer's chat template) and
``special_names.py`` (the special tokens that it writes), and ``audit.py`` (a look at what is trained on).
"""
