"""Every error a user can cause or meet, as one family.

SleepstreamError            anything we say on purpose; one line: what was asked, what was found, what to do
├── UsageError              the call itself is wrong (exit code 2)
│   └── SettingsError       a settings file that does not validate
└── RunError                the call was right and the world was not (exit code 1)
    ├── RecordingError      a recording that is missing, damaged or not what it claims to be
    │   └── ScoringError    a hypnogram that cannot be understood, or not be compared by 30 s
    ├── SignalError         samples that cannot be EEG: wrong unit, flat throughout, rate out of range
    ├── ArtifactError       a model file that is damaged, foreign or does not fit this engine
    ├── SourceError         a live device or stream that cannot be opened or has changed its nature
    ├── SinkError           an output that refuses us for good (bad credentials, unwritable folder)
    │   └── OutputError     standard output or error that takes nothing: reader gone, disk full
    ├── TakenError          another engine on this machine has the node, or records the same sleeper
    ├── CommandError        a command that no engine has obeyed
    └── JournalError        a session file that is foreign, in use or cannot be written
        ├── DamagedError    one that cannot be read, or not to its end
        └── DiskError       one that cannot be made, because the disk refuses for now
"""


class SleepstreamError(Exception):
    """The base of the family: one line fit for a terminal."""

    exit_code = 1


class UsageError(SleepstreamError):
    """The call itself is wrong."""

    exit_code = 2


class SettingsError(UsageError):
    """A settings file or value that does not validate."""


class RunError(SleepstreamError):
    """The call was right, but it could not be carried out."""


class RecordingError(RunError):
    """A recording that is missing, damaged or not what it claims to be."""


class ScoringError(RecordingError):
    """A hypnogram that cannot be understood, or cannot be compared by epochs of 30 s."""


class SignalError(RunError):
    """Samples that cannot be EEG as declared."""


class ArtifactError(RunError):
    """A model file that is damaged, of another program, or does not fit this engine."""


class SourceError(RunError):
    """A live device or stream that cannot be opened, or that changed its rate or channels."""


class SinkError(RunError):
    """An output that refuses permanently."""


class TakenError(RunError):
    """Another engine on this machine has the node name, or records the same sleeper into the same folder."""


class CommandError(RunError):
    """A command that the engine refused, or that no engine answered."""


class OutputError(SinkError):
    """Standard output or error takes nothing: its reader is gone, its disk full, its terminal closed."""


class JournalError(RunError):
    """A session file that is another program's, in use, or cannot be written."""


class DamagedError(JournalError):
    """A session file that cannot be read, or not to its end."""


class DiskError(JournalError):
    """A session file that cannot be made, because the disk is full or fails; it may not be so for ever."""


def explain(error: BaseException) -> str:
    """Describe any exception in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    try:
        text = str(error)
    except BaseException:  # it cannot even say what it is
        text = ""
    said = (
        text if isinstance(error, SleepstreamError) else f"{type(error).__name__}: {text}".removesuffix(": ")
    )
    return " ".join(said.split())[:500]
