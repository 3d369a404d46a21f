"""Reads the contract and the ONNX graphs in an artifact.

It is a zip archive, read without torch and without running anything in it.
"""

from __future__ import annotations

import zipfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from streamer.errors import ArtifactError
from streamer.network.contract import FILE_NAME, Contract, read_contract

# One epoch of several streams; several epochs of one stream. If a graph's inputs change, its name changes
# too, so that an older artifact counts as having no graphs.
GRAPHS = ("epoch.onnx", "block.onnx")
SIZE_NAME = "size.json"  # the network's shape, to continue training from it; the engine does not read it


def contract_inside(data: bytes, path: Path) -> Contract:
    """Read the contract of the artifact `data`; `path` is for messages.

    Raises:
        ArtifactError: damaged, not an artifact, or one that this engine cannot serve.

    """
    found = files_inside(data, path, (FILE_NAME,))
    if not found:
        raise ArtifactError(f"model {path}: has no {FILE_NAME}; make it with python -m model.export")
    return read_contract(found[FILE_NAME], str(path))


def graphs_inside(data: bytes, path: Path, contract: Contract) -> dict[str, bytes]:
    """Read the ONNX graphs of an artifact by their names.

    Raises:
        ArtifactError: there are none, or they are not those of the contract.

    """
    if set(contract.graphs_sha256) != set(GRAPHS):
        raise ArtifactError(
            f"model {path}: has no ONNX graphs ({' and '.join(GRAPHS)}); use runtime torchscript, or "
            "export it again with them"
        )
    graphs = files_inside(data, path, GRAPHS)
    found = {name: sha256(graph).hexdigest() for name, graph in graphs.items()}
    if found != contract.graphs_sha256:
        raise ArtifactError(
            f"model {path}: its ONNX graphs are not those of its contract; get the file again"
        )
    return graphs


def files_inside(data: bytes, path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Read the extra files with these names, as far as they exist.

    Raises:
        ArtifactError: damaged, not a zip archive, or a name occurs twice.

    """
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            for member in archive.namelist():
                name = member.rpartition("/extra/")[2]
                if name not in names or "/extra/" not in member:
                    continue
                if name in files:
                    raise ArtifactError(f"model {path}: holds {name} twice; get the file again")
                files[name] = archive.read(member)
    except (OSError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"model {path}: damaged or not a model ({error}); get the file again") from None
    return files
