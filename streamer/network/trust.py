"""Decides which model files may be run: those with a known sha256.

TorchScript is a program, so a digest inside the file would prove nothing. The packaged artifact's digest is
beside it in `SHA256SUMS`, which `sha256sum -c` reads too; that of any other file comes from the settings.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from streamer.errors import ArtifactError

SUMS = "SHA256SUMS"
PACKAGED = Path(str(files("streamer").joinpath("weights/default.pt")))


def read_trusted(path: Path | None, wanted: str | None = None, trusted: bool = False) -> bytes:
    """Read a model file and check its digest. The bytes returned are loaded, not the file again.

    Args:
        path: of the artifact; None: the packaged one.
        wanted: the sha256 that it must have.
        trusted: accept any file.

    Raises:
        ArtifactError: it cannot be read or is not trusted; the message has the sha256 to put into the
            settings.

    """
    try:
        data = (path or PACKAGED).read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"model {path}: no such file; give the path of an exported model") from None
    except OSError as error:
        raise ArtifactError(f"model {path}: cannot be read ({error.strerror}); is it a file?") from None
    found = sha256(data).hexdigest()
    if path is None:
        wanted = recorded(PACKAGED)
        if found != wanted:
            raise ArtifactError(
                f"the packaged model has sha256 {found}, {SUMS} says {wanted}; install sleepstream again"
            )
    elif wanted is not None and found != wanted:
        raise ArtifactError(
            f"model {path}: sha256 is {found}, the settings want {wanted}; get the file again, or renew "
            "[model] sha256 if you meant to replace it"
        )
    elif wanted is None and not trusted:
        raise ArtifactError(
            f'model {path}: it is not trusted; if it is yours, write sha256 = "{found}" below [model], '
            "or trusted = true to accept any file there"
        )
    return data


def recorded(path: Path) -> str:
    """Return the digest of a file in the `SHA256SUMS` beside it, or "none"."""
    try:
        lines = path.with_name(SUMS).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return "none"
    pairs = (line.split(maxsplit=1) for line in lines)
    return next((pair[0] for pair in pairs if pair[1:] == [path.name]), "none")


def record(path: Path) -> str:
    """Renew a file's line in the `SHA256SUMS` beside it, if there is one; return its digest."""
    digest, sums = sha256(path.read_bytes()).hexdigest(), path.with_name(SUMS)
    if sums.exists():
        others = [one for one in sums.read_text("ascii").splitlines() if one.split()[1:] != [path.name]]
        sums.write_text("".join(f"{one}\n" for one in [*others, f"{digest}  {path.name}"]), "ascii")
    return digest
