"""The session file: recorded so that it survives a crash, read, packed, and found for continuing."""

from streamer.journal.reader import JournalReader
from streamer.journal.recorder import NOT_RECORDED, PROMISE_S, UNEXPLAINED, Journal, JournalOutbox
from streamer.journal.rows import Meta
from streamer.journal.writer import JournalStatus

__all__ = [
    "NOT_RECORDED",
    "PROMISE_S",
    "UNEXPLAINED",
    "Journal",
    "JournalOutbox",
    "JournalReader",
    "JournalStatus",
    "Meta",
]
