"""Receives commands: checks retain flag, rate, size and content before it acts, and answers each.

An exception while a command is carried out refuses that command and has no other effect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import ValidationError

from streamer.clock import Allowance, Clock
from streamer.payloads import AnswerPayload, CommandPayload, utc

MAX_BYTES = 4096
BURST = 10  # commands in a row
PER_SECOND = 1.0  # commands after those

OnCommand = Callable[[CommandPayload], str]  # carries it out; returns why it could not, or ""
OnRefused = Callable[[str], None]
OnAnswer = Callable[[AnswerPayload], None]
log = logging.getLogger(__name__)


class CommandInbox:
    """The commands of one stream.

    Every message takes a token, valid or not. Without a token it is not read, only counted in `ignored`, so a
    flood costs almost nothing. `on_refused` gets one line for an event, at most as often as there are tokens.
    """

    def __init__(self, on_command: OnCommand, on_refused: OnRefused, clock: Clock) -> None:
        self.ignored = 0
        self._on_command = on_command
        self._on_refused = on_refused
        self._clock = clock
        self._allowance = Allowance(BURST, PER_SECOND)
        self._flooded = False

    def receive(self, body: bytes, retained: bool, answer: OnAnswer | None = None) -> None:
        """Carry out one message or refuse it, and answer. Never raises."""
        if not self._admit():
            self.ignored += 1
            return
        command, refused = self._read(body, retained)
        if command is None:
            self._refuse(refused)
        else:
            refused = self._obey(command)
        if answer is None:
            return
        try:
            answer(
                AnswerPayload(
                    t=utc(self._clock.wall()),
                    id=command and command.id,
                    command=command and command.command,
                    done=not refused,
                    reason=refused,
                )
            )
        except Exception:
            log.exception("a command could not be answered")

    def _read(self, body: bytes, retained: bool) -> tuple[CommandPayload | None, str]:
        """Read the command; otherwise say why the message is not one."""
        if retained:  # a retained "stop" would stop the engine at every start
            return None, "a retained command: publish it without the retain flag"
        if len(body) > MAX_BYTES:
            return None, f"a command of {len(body)} bytes; at most {MAX_BYTES} are allowed"
        try:
            return CommandPayload.model_validate_json(body), ""
        except ValidationError as error:
            return None, f"not a command: {_first_problem(error)}"

    def _obey(self, command: CommandPayload) -> str:
        """Carry it out; return why it failed in one line, or ""."""
        try:
            return self._on_command(command)
        except Exception as error:
            log.exception("command %s failed", command.command)
            refused = f"internal error: {error!r}"
            self._refuse(f"{command.command}: {refused}")
            return refused

    def _refuse(self, reason: str) -> None:
        try:
            self._on_refused(reason)
        except Exception:
            log.exception("a refusal could not be reported: %s", reason)

    def _admit(self) -> bool:
        """Take a token, if there is one. The first message without one is reported."""
        if self._allowance.take(self._clock.monotonic()):
            self._flooded = False
            return True
        if not self._flooded:
            self._flooded = True
            self._refuse(f"too many commands: more than {BURST} at once; the rest is ignored")
        return False


def _first_problem(error: ValidationError) -> str:
    """Describe the problem in one line, without the client's own text, which may be anything."""
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    known = [str(part) for part in problem["loc"] if part in CommandPayload.model_fields]
    return ": ".join([*known, problem["msg"]])[:200]
