"""Asks questions, which are answered by an option, at a terminal, or by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from streamer.errors import UsageError

T = TypeVar("T")
Read = Callable[[str], T]  # parses an answer; raises UsageError if it is not valid


class Interview:
    """Asks questions.

    Args:
        ask: shows a prompt and returns the line that is typed; None: there is no terminal.
        usual: take default answers without asking.
        say: prints a line.

    """

    def __init__(
        self, ask: Callable[[str], str] | None, usual: bool, say: Callable[[str], None] = print
    ) -> None:
        self._ask = ask
        self._usual = usual
        self._say = say

    def question(
        self, option: str, given: str | None, text: str, usual: str, read: Read[T], needed: bool = False
    ) -> T:
        """Ask until the answer is valid.

        Args:
            option: name of the command line's option that answers it, too.
            given: the value of that option, if given.
            text: the question.
            usual: the default answer.
            read: parses an answer.
            needed: without a terminal the default is not accepted; the option must be given.

        Raises:
            UsageError: the option's value is not valid, or the answer is needed and there is no terminal.

        """
        if given is not None:
            return _told(option, given, read)
        if self._ask is None and needed and not self._usual:
            raise UsageError(f"there is no terminal to ask at; give {option} ({text})")
        if self._ask is None or self._usual:
            return _told(option, usual, read)
        while True:
            try:
                typed = self._ask(f"{text} [{usual}]: ").strip()
            except EOFError:
                raise UsageError(f"no answer to {text!r}; give {option}") from None
            try:
                return read(typed or usual)
            except UsageError as error:
                self._say(f"  {error}")

    def agreed(self, option: str, given: bool | None, text: str, usual: bool) -> bool:
        """Ask for yes or no.

        Raises:
            UsageError: as for `question`.

        """
        if given is not None:
            return given
        return self.question(option, None, text, "yes" if usual else "no", _yes)


def _told(option: str, answer: str, read: Read[T]) -> T:
    try:
        return read(answer)
    except UsageError as error:
        raise UsageError(f"{option} {answer!r}: {error}") from error


def _yes(answer: str) -> bool:
    if answer.lower() in ("y", "yes", "n", "no"):
        return answer.lower() in ("y", "yes")
    raise UsageError(f"{answer!r} is neither yes nor no")
