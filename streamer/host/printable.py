"""Words from outside made fit for a log and a terminal: one line, and nothing that a terminal obeys."""

from __future__ import annotations

JOINER = "\u200d"  # joins emoji; it moves nothing


def printable(text: str) -> str:
    r"""Put a space for what would begin a new line, and the written form (\x1b) for what cannot be seen.

    Every name, label, mark and reason that comes from a device, a file, a broker or a client goes through
    here before anyone prints it. What is printable already comes back as it is.
    """
    if text.isprintable():
        return text
    return "".join(_shown(one) for one in text)


def _shown(one: str) -> str:
    if one.isprintable() or one == JOINER:
        return one
    if one.isspace():
        return " "
    return one.encode("unicode_escape").decode("ascii")
