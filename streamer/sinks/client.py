"""aiomqtt's client with bounded waits, errors for refusals, closed sockets and readable error messages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Literal, Self

import aiomqtt
from aiomqtt import MqttCodeError, MqttError, ProtocolVersion
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from streamer.errors import SettingsError, SinkError
from streamer.sinks.commands import MAX_BYTES
from streamer.sinks.refusals import Refused
from streamer.sinks.settings import MqttSettings
from streamer.sinks.wire import IN_FLIGHT, SUCCESS, Message, Wire

CONNECT_S = 2.0  # for TCP and for TLS; their thread cannot be cancelled, so this bounds the shutdown
KEEPALIVE_S = 15  # a silent broker is noticed, and the last will published, within 1.5 times this
MARGIN = 32  # bytes of a packet besides topic and body
CORRELATION_BYTES = 256  # longer correlation data are not repeated in an answer
QUEUED_COMMANDS = 64  # further messages are dropped on arrival
LONGEST_LOGIN = 65_535  # bytes
USER, PASSWORD = "SLEEPSTREAM_MQTT_USER", "SLEEPSTREAM_MQTT_PASSWORD"

Failure = Literal[
    "version",  # the broker does not speak MQTT 5
    "login",
    "will",  # the broker does not retain messages, or has no QoS 1
    "refused",  # for another reason
    "taken over",  # another process has connected with our client identifier
    "silent",  # no answer in time
    "hung up",  # the broker closed the connection instead of answering
    "other",
]
MAYBE_OLD = "version", "silent", "hung up"  # a broker that may speak MQTT 3.1.1 alone
# MQTT 5 reason codes; paho translates the 3.1.1 ones into these.
_REFUSED: dict[int, Failure] = {132: "version", 134: "login", 135: "login", 154: "will", 155: "will"}
_TAKEN_OVER = 142
_TIMED_OUT = "Operation timed out"  # aiomqtt's message; it has no class for it
_HUNG_UP = "it closed the connection at the greeting"

_LIBRARY_LOG = logging.getLogger("aiomqtt")


class Client(aiomqtt.Client):
    """One connection's client, which works around the faults of aiomqtt 2.5.

    Args:
        settings: of the broker.
        tls: for the connection; None: no TLS.
        node: part of the client identifier.
        will: the message that the broker publishes when the connection breaks.
        protocol: the version of MQTT.
        in_doubt: while it returns True, only one message at a time waits for its answer.

    Attributes:
        unanswered: topics that waited for the broker's answer when the connection ended.
        ignored: topics of messages that got no answer while later ones did.

    It overrides five of aiomqtt's callbacks; the tests of outages fail if a later version calls others.

    """

    def __init__(
        self,
        settings: MqttSettings,
        tls: ssl.SSLContext | None,
        node: str,
        will: aiomqtt.Will | None,
        protocol: ProtocolVersion,
        in_doubt: Callable[[], bool] = lambda: False,
    ) -> None:
        properties = None
        if protocol is ProtocolVersion.V5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MAX_BYTES + 1024  # longer ones would be refused here anyway
        super().__init__(
            settings.host,
            settings.port,
            username=os.environ.get(USER),
            password=os.environ.get(PASSWORD),
            # Always the same identifier: a new connection then replaces a dead one, whose last will is
            # published before our `online` and not after it.
            identifier=f"sleepstream-{node}",
            protocol=protocol,
            will=will,
            timeout=settings.timeout_s,
            keepalive=KEEPALIVE_S,
            max_queued_incoming_messages=QUEUED_COMMANDS,
            properties=properties,
            tls_context=tls,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # send each stage at once
            logger=_LIBRARY_LOG,
        )
        self.protocol = protocol
        self._client.connect_timeout = CONNECT_S
        self.unanswered: set[str] = set()
        self._wire = Wire(self._client, protocol is ProtocolVersion.V5)
        self._asked: set[str] = set()  # subscriptions under way
        self.ignored: set[str] = set()
        self._turn = asyncio.Lock()
        self._in_doubt = in_doubt
        self._largest = math.inf  # bytes of a packet that the broker takes
        self._retains = True  # the broker keeps retained messages
        self._gone = False  # the connection has ended

    async def __aenter__(self) -> Self:
        """Connect. Also notices a broker that hangs up right after its greeting, which aiomqtt does not."""
        await super().__aenter__()
        if self._gone:
            raise MqttError(_HUNG_UP)
        return self

    @property
    def lacks(self) -> str:
        """What this broker announced that it cannot do, or ""."""
        no_answer = "" if self._wire.qos else "takes no QoS 1: messages may be lost without notice"
        return "; ".join(one for one in (no_answer, "" if self._retains else "retains nothing") if one)

    async def say(
        self,
        topic: str,
        body: str,
        retain: bool = False,
        expiry_s: float | None = None,
        correlation: bytes = b"",
    ) -> None:
        """Publish and wait for the acknowledgement; in MQTT 5 the message may expire.

        Raises:
            Refused: the broker refused it; the connection stays.
            MqttError: it was not acknowledged.

        """
        if self._largest < math.inf:
            size = len(body.encode()) + len(topic.encode()) + len(correlation) + MARGIN
            if size > self._largest:
                raise Refused(ReasonCode(PacketTypes.DISCONNECT, "Packet too large"), topic)
        expiry = None if expiry_s is None else max(1, round(expiry_s))
        message = Message(topic, body, retain and self._retains, expiry, correlation)
        if self._in_doubt():  # one at a time, while it is unknown which message made the broker hang up
            async with self._turn:
                reason = await self._publish(message)
        else:
            reason = await self._publish(message)
        if reason is not SUCCESS and reason.is_failure:
            raise Refused(reason, topic)

    async def _publish(self, message: Message) -> ReasonCode:
        if self._client.socket() is None:
            cause = self._disconnected.exception() if self._disconnected.done() else None
            raise MqttCodeError(MQTTErrorCode.MQTT_ERR_NO_CONN, "Could not publish message") from cause
        sent = self._loop.time()
        try:
            return await self._wire.publish(message, self.timeout)
        except TimeoutError:
            if self._wire.last_answer > sent:
                self.ignored.add(message.topic)
            raise MqttError(_TIMED_OUT) from None

    async def hear(self, topic: str, qos: int = 1) -> None:
        """Subscribe to a topic.

        Raises:
            Refused: the broker refused it; the connection stays.
            MqttError: the broker did not answer.

        """
        async with self._turn if self._in_doubt() else contextlib.nullcontext():
            self._asked.add(topic)
            try:
                (result, *_) = await self.subscribe(topic, qos=qos)
            finally:
                self._asked.discard(topic)
        if (result if isinstance(result, int) else result.value) >= 0x80:
            raise Refused(result, topic)

    def abandon(self) -> None:
        """Drop the connection without DISCONNECT, so that the broker publishes our last will."""
        connection = self._client.socket()
        if isinstance(connection, socket.socket):
            with contextlib.suppress(OSError):  # it was never connected
                connection.shutdown(socket.SHUT_RDWR)  # paho notices and closes it
        # asyncio warns about an exception that was never retrieved
        self._disconnected.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.unanswered = self._wire.unanswered | self._asked
        lost = MqttCodeError(reason_code, "Disconnected")  # aiomqtt would let callers wait for their timeout
        self._wire.end(lost)
        for waiting in self._pending_subscribes.values():
            if not waiting.done():
                waiting.set_exception(lost)
        if not self._connected.done():  # aiomqtt would wait for an answer that can no longer come
            self._connected.set_exception(MqttError(_HUNG_UP))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self._gone = True
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # or asyncio warns that it was never retrieved

    def _on_socket_register_write(self, client: PahoClient, userdata: Any, sock: socket.socket) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # the connecting thread
            super()._on_socket_register_write(client, userdata, sock)
        else:
            # At once: aiomqtt waits for the loop's next turn. By then the socket may be closed, and its
            # number may belong to another.
            self._loop.add_writer(sock.fileno(), client.loop_write)

    def _on_socket_open(self, client: PahoClient, userdata: Any, sock: socket.socket) -> None:
        super()._on_socket_open(client, userdata, sock)
        self._loop.call_soon_threadsafe(self._loop.add_reader, sock.fileno(), self._read)

    def _read(self) -> None:
        try:
            self._wire.read()
        except Exception as error:  # as in aiomqtt: usually the connection broke
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _on_connect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._largest = getattr(properties, "MaximumPacketSize", math.inf)
        self._wire.qos = min(1, getattr(properties, "MaximumQoS", 1))
        self._wire.most = min(self._wire.most, getattr(properties, "ReceiveMaximum", IN_FLIGHT))
        self._retains = bool(getattr(properties, "RetainAvailable", 1))
        super()._on_connect(client, userdata, flags, reason_code, properties)


def correlation_of(message: aiomqtt.Message) -> bytes:
    """Return the correlation data of an MQTT 5 message, which its answer must repeat; b"" if it has none."""
    found = getattr(message.properties, "CorrelationData", b"")
    return found if isinstance(found, bytes) and len(found) <= CORRELATION_BYTES else b""


class _TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho would leave one socket open per attempt."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """Make the context for TLS, which verifies the broker and sends our certificate; None without TLS.

    Raises:
        SinkError: a file cannot be read or is not a certificate.

    """
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise SinkError(f"[mqtt] ca_file {settings.ca_file}: {error}; give a PEM file") from error
    context.sslsocket_class = _TidySocket
    if settings.client_certificate:
        try:
            # Without a password OpenSSL would ask for that of an encrypted key at the terminal.
            context.load_cert_chain(settings.client_certificate, settings.client_key, password="")
        except OSError as error:
            files = f"client_certificate {settings.client_certificate}, client_key {settings.client_key}"
            raise SinkError(f"[mqtt] {files}: {error}; give PEM files that belong together") from error
    return context


def check_login() -> None:
    """Check that user and password can be sent in MQTT.

    Raises:
        SettingsError: one of them cannot.

    """
    for name in (USER, PASSWORD):
        try:
            size = len(os.environ.get(name, "").encode())
        except UnicodeEncodeError:
            raise SettingsError(f"{name} is not UTF-8 text, which MQTT needs; set it anew") from None
        if size > LONGEST_LOGIN:
            raise SettingsError(f"{name} has {size} bytes; MQTT carries {LONGEST_LOGIN} at most")


def failure(error: MqttError) -> Failure:
    """Return the kind of a connection's failure; in 3.1.1 not every broker tells it."""
    if str(error) in (_TIMED_OUT, _HUNG_UP):
        return "silent" if str(error) == _TIMED_OUT else "hung up"
    if _TAKEN_OVER in (_code(error), _code(error.__cause__)):
        return "taken over"
    if isinstance(error, aiomqtt.exceptions.MqttConnectError):
        return _REFUSED.get(_code(error) or 0, "refused")
    return "other"


def explain(error: MqttError, settings: MqttSettings) -> str:
    """Describe in one line what went wrong and what to do."""
    where = f"broker {settings.host}:{settings.port}"
    cause = error.__cause__ or error
    match failure(error):
        case "login":
            return f"{where} refuses the user name or password; set {USER} and {PASSWORD}"
        case "version" | "will" | "refused":
            return f"{where} refuses the connection: {error}"
        case "silent":
            return f"{where} does not answer"
        case "taken over":
            return f"{where}: another process with the same node name has connected; give each its own `node`"
    if "CERTIFICATE_VERIFY_FAILED" in str(cause):
        return (
            f"{where}: its certificate does not verify ({cause}); set ca_file to the authority that signed it"
        )
    if isinstance(error, Refused):
        return f"{where} refuses a message: {error}; check what this user may publish"
    return f"{where}: {' '.join(str(cause).split()) or type(cause).__name__}"


def _code(error: BaseException | None) -> int | None:
    reason = error.rc if isinstance(error, MqttCodeError) else None
    return reason.value if isinstance(reason, ReasonCode) else reason
