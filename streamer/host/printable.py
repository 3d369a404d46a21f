"""Makes text from outside safe for logs and terminals: one line, no control characters."""

from __future__ import annotations

JOINER = "\u200d"  # joins emoji; harmless


def printable(text: str) -> str:
    r"""Replace white space by a space, and other unprintable characters by an escape such as \x1b.

    Every name, label, mark and reason from a device, a file, a broker or a client passes here before it is
    printed. Printable text is returned unchanged.
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
