"""Every error that a user can cause or meet, as one class hierarchy.

SleepstreamError            one line for the user: what was asked, what was found, what to do
├── UsageError              the call itself is wrong (exit code 2)
│   └── SettingsError       a settings file that does not validate
└── RunError                the call is right, but could not be carried out (exit code 1)
    ├── RecordingError      a recording that is missing, damaged or of another format than declared
    │   └── ScoringError    a hypnogram that cannot be parsed, or is not in 30 s epochs
    ├── SignalError         samples that cannot be EEG: wrong unit, flat throughout, wrong sampling rate
    ├── ArtifactError       a model file that is damaged, foreign or does not fit this engine
    ├── SourceError         a device or stream that cannot be opened, or changed its rate or channels
    ├── SinkError           an output that refuses permanently (bad credentials, unwritable folder)
    │   └── OutputError     standard output or error cannot be written: reader gone, disk full
    ├── TakenError          another engine on this machine has the node, or records the same sleeper
    ├── CommandError        a command that the engine refused, or that no engine answered
    └── JournalError        a session file that is not ours, in use, or cannot be written
        ├── DamagedError    a session file that cannot be read to its end
        └── DiskError       a session file that cannot be created, because the disk is full or fails
"""


class SleepstreamError(Exception):
    """The base class; its text is one line for a terminal."""

    exit_code = 1


class UsageError(SleepstreamError):
    """The call itself is wrong."""

    exit_code = 2


class SettingsError(UsageError):
    """A settings file or value that does not validate."""


class RunError(SleepstreamError):
    """The call was right, but it could not be carried out."""


class RecordingError(RunError):
    """A recording that is missing, damaged or of another format than declared."""


class ScoringError(RecordingError):
    """A hypnogram that cannot be parsed, or that is not in epochs of 30 s."""


class SignalError(RunError):
    """Samples that cannot be EEG as declared."""


class ArtifactError(RunError):
    """A model file that is damaged, from another program, or does not fit this engine."""


class SourceError(RunError):
    """A device or stream that cannot be opened, or that changed its rate or channels."""


class SinkError(RunError):
    """An output that refuses permanently."""


class TakenError(RunError):
    """Another engine on this machine has the node name, or records the same sleeper into the same folder."""


class CommandError(RunError):
    """A command that the engine refused, or that no engine answered."""


class OutputError(SinkError):
    """Standard output or error cannot be written: reader gone, disk full, terminal closed."""


class JournalError(RunError):
    """A session file that is not ours, is in use, or cannot be written."""


class DamagedError(JournalError):
    """A session file that cannot be read to its end."""


class DiskError(JournalError):
    """A session file that cannot be created, because the disk is full or fails; worth another try later."""


def explain(error: BaseException) -> str:
    """Describe any exception in one line of at most 500 characters."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        text = str(error)
    except BaseException:  # an exception whose `__str__` fails
        text = ""
    said = (
        text if isinstance(error, SleepstreamError) else f"{type(error).__name__}: {text}".removesuffix(": ")
    )
    return " ".join(said.split())[:500]
