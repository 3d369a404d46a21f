"""The `[mqtt]` table: what cannot work is refused before the night."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamer.sinks.settings import MqttSettings


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "::1", "broker.example", "bücher.example", "my-pi.local"]
)
def test_hosts(host):
    assert MqttSettings(host=host).host == host


@pytest.mark.parametrize("host", ["", " ", "a b", "a\0b", "a\nb", "..", "x" * 64 + ".example", "x" * 300])
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ValidationError):
        MqttSettings(host=host)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"ca_file": "ca.pem"}, "tls = true"),
        ({"tls": True, "client_key": "me.key"}, "client_certificate"),
        ({"embedded": True, "host": "192.168.1.5"}, "loopback"),
        ({"embedded": True, "tls": True}, "without TLS"),
        ({"retry_min_s": 40}, "above"),
        ({"password": "secret"}, "Extra inputs"),
    ],
)
def test_contradictions_are_named(table, word):
    with pytest.raises(ValidationError, match=word):
        MqttSettings(**table)
