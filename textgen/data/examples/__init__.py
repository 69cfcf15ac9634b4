"""Examples of tasks: prompts with completions, and chats.

Start with ``rows.py`` (rows of a table → documents), then ``encode.py`` (documents → token ids and which of them are
targets), ``chat.py`` (the tokenizer's chat template) and ``audit.py`` (a look at what is trained on).
"""
