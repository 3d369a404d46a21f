"""The tests' brokers and servers do not take each other's ports."""

import subprocess
import sys
from pathlib import Path

from tests.mosquitto import free_port

ROOT = Path(__file__).parents[1]

CHILD = """
import sys
from pathlib import Path
from tests import mosquitto
taken = int(sys.argv[1])
mosquitto.CHOSEN = [taken] * 1000 + list(range(9000, 9010))
print(mosquitto.free_port() != taken)
"""


def test_a_port_is_given_once_however_late_it_is_used():
    taken = free_port()
    said = subprocess.run(
        [sys.executable, "-c", CHILD, str(taken)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout == "True\n"
