"""The network and how it is trained; nothing here ships in the wheel."""

from model.extras import name_missing
from streamer.host.local import silence

silence()  # before any library is imported that would report to its maker
name_missing()
