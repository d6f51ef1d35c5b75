"""Text of unknown origin for messages."""

from __future__ import annotations


def one_line(what: object, most: int = 200) -> str:
    """What another library says, or a file holds, in one line of bounded length; nothing at all is told by its type."""
    words = " ".join(str(what).split()) or type(what).__name__
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words[:most])
    return text if len(words) <= most else f"{text}..."
