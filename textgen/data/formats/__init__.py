"""The file formats that texts are read from, each by a function: file → texts, one at a time.

``table.py`` lists the formats. ``streams.py`` opens files, decompresses them, and finds what is not UTF-8 text
(``text_check.py``); ``file_to_read.py`` says what to read, and words the errors. Everything is read in bounded memory:
a chunk and one text, or one row group's column of a Parquet file.
"""
