"""TLS against a real mosquitto: verified by default, refused when it does not fit, a client certificate."""

from __future__ import annotations

import asyncio
import shutil
import subprocess

import pytest

from streamer.clock import SystemClock
from streamer.errors import SinkError
from streamer.sinks.mqtt import MqttSink
from streamer.sinks.settings import MqttSettings
from tests.mosquitto import Mosquitto, needs_mosquitto
from tests.sinks.test_mqtt import settings
from tests.sinks.test_mqtt_outage import Watch

pytestmark = [
    needs_mosquitto,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl program is not installed"),
]


def _openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """An authority of our own, a server certificate for 127.0.0.1, one for elsewhere, and a client's."""
    folder = tmp_path_factory.mktemp("papers")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    authority = ("-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    _openssl(folder, "req", *authority, "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, where in (
        ("server", "IP:127.0.0.1"),
        ("elsewhere", "DNS:elsewhere.example"),
        ("client", "DNS:me"),
    ):
        (folder / f"{name}.ext").write_text(f"subjectAltName={where}\nauthorityKeyIdentifier=keyid\n")
        _openssl(
            folder, "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        _openssl(folder, *sign, "-out", f"{name}.pem", "-extfile", f"{name}.ext")
    return folder


def _broker(papers, name="server", *more):
    return Mosquitto(
        f"cafile {papers / 'ca.pem'}",
        f"certfile {papers / f'{name}.pem'}",
        f"keyfile {papers / f'{name}.key'}",
        *more,
    )


def _first_status(port, **more):
    async def main():
        watch = Watch()
        async with MqttSink(settings(port, tls=True, **more), "n", SystemClock(), watch):
            await watch.until(lambda status: status.connected or status.last_error)
        return watch.seen[0]

    return asyncio.run(main())


def test_a_broker_whose_authority_we_name_is_trusted(papers):
    with _broker(papers) as broker:
        assert _first_status(broker.port, ca_file=papers / "ca.pem").connected


def test_a_broker_that_nobody_vouches_for_is_refused(papers):
    with _broker(papers) as broker:
        status = _first_status(broker.port)
    assert not status.connected
    assert "set ca_file" in status.last_error


def test_a_good_certificate_of_another_host_is_refused(papers):
    with _broker(papers, "elsewhere") as broker:
        status = _first_status(broker.port, ca_file=papers / "ca.pem")
    assert not status.connected
    assert "certificate does not verify" in status.last_error


def test_a_client_certificate_opens_a_broker_that_wants_one(papers):
    with _broker(papers, "server", "require_certificate true") as broker:
        assert not _first_status(broker.port, ca_file=papers / "ca.pem").connected
        key = {"client_certificate": papers / "client.pem", "client_key": papers / "client.key"}
        assert _first_status(broker.port, ca_file=papers / "ca.pem", **key).connected


def test_a_server_without_tls_is_refused(papers):
    with Mosquitto() as broker:
        status = _first_status(broker.port, ca_file=papers / "ca.pem")
    assert not status.connected
    assert status.last_error


@pytest.mark.parametrize("field", ["ca_file", "client_certificate"])
def test_a_missing_or_broken_file_is_found_at_once(papers, tmp_path, field):
    broken = tmp_path / "broken.pem"
    broken.write_text("this is no certificate\n")
    for path in (tmp_path / "missing.pem", broken):
        with pytest.raises(SinkError, match=path.name):
            MqttSink(MqttSettings(tls=True, **{field: path}), "n", SystemClock())


def test_an_encrypted_key_is_refused_and_not_asked_about(papers, tmp_path):
    locked = tmp_path / "locked.key"
    _openssl(papers, "ec", "-in", "client.key", "-out", str(locked), "-aes128", "-passout", "pass:secret")
    with pytest.raises(SinkError, match=r"locked\.key"):
        MqttSink(
            MqttSettings(tls=True, client_certificate=papers / "client.pem", client_key=locked),
            "n",
            SystemClock(),
        )
