"""What the documents promise by the name of a test has that test."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))


def test_every_test_that_a_document_names_is_there():
    named = [
        (path.name, name)
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for name in re.findall(r"`(test_\w+_\w+_\w+)`", path.read_text(encoding="utf-8"))
    ]
    assert any(document == "faults.md" for document, _ in named)
    assert [one for one in named if f"def {one[1]}(" not in TESTS] == []
