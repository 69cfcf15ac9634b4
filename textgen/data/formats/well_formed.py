"""Text that has no UTF-8."""


def well_formed(text: str) -> str:
    """The text with U+FFFD in place of lone surrogates: halves of a character, which JSON's escapes can represent.

    They are no characters and have no UTF-8; programs write them when they cut a text in the middle of an emoji. jq
    and JavaScript's ``toWellFormed`` replace them in the same way.
    """
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
