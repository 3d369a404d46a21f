"""What would be published: its version, what its index page shows, and that it builds from any sources."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import readme_renderer.markdown

from streamer import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RELATIVE = re.compile(r'(?:href|src)="(?!https?://|#)')


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def built(folder, *kinds):
    """Build without a network; the archives by their suffix."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", folder / "dist", folder],
        check=True,
        capture_output=True,
    )
    return {path.suffix: path for path in (folder / "dist").iterdir()}


def metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(archive.read(name))


@pytest.fixture
def small(tmp_path):
    """The sources as far as a build reads them, without the history and the large files."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    (folder / ".gitignore").write_text("dist/\nunpacked/\n")
    (folder / "streamer").mkdir()
    shutil.copy(ROOT / "streamer/__init__.py", folder / "streamer")
    return folder


def test_the_version_is_that_of_what_is_installed():
    assert re.match(r"\d+[.+]", __version__)
    assert "version" in PROJECT["project"]["dynamic"]


@pytest.mark.slow
def test_a_tag_makes_the_version_and_without_one_it_builds_too(small):
    assert metadata(built(small, "--wheel")[".whl"])["Version"] == "0.1.0"  # no repository at all
    git(small, "init", "-q")
    git(small, "add", ".")
    git(small, "commit", "-qm", "first")
    shutil.rmtree(small / "dist")
    assert "dev" in metadata(built(small, "--wheel")[".whl"])["Version"]  # no tag
    git(small, "tag", "v0.7.3")
    shutil.rmtree(small / "dist")
    made = built(small, "--sdist")[".gz"]
    assert made.name == "sleepstream-0.7.3.tar.gz"
    with tarfile.open(made) as archive:
        archive.extractall(small / "unpacked", filter="data")
    (unpacked,) = (small / "unpacked").iterdir()  # no repository, but what the sdist says of itself
    assert metadata(built(unpacked, "--wheel")[".whl"])["Version"] == "0.7.3"


@pytest.mark.slow
def test_the_index_page_shows_the_readme_and_leads_nowhere_that_is_not_there(small):
    body = metadata(built(small, "--wheel")[".whl"]).get_payload()
    shown = readme_renderer.markdown.render(body)
    assert shown is not None
    assert "<h1" in shown
    assert RELATIVE.findall(shown) == []
    assert "<img" not in shown
    assert "docs/archives.md" in shown  # named, where it cannot be a link


def test_nothing_is_said_to_be_on_an_index():
    texts = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    texts += [path for folder in ("streamer", "tools", "model") for path in (ROOT / folder).rglob("*.py")]
    wrong = [
        str(path.relative_to(ROOT))
        for path in texts
        if re.search(r"pipx? install[^\n&]*['\" ]sleepstream(?![\w./])", path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
