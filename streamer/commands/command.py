"""`sleepstream command`: sends a command to a running engine over MQTT, and waits for its answer."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
from pathlib import Path
from typing import get_args

import aiomqtt
from aiomqtt import MqttError, ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import TypeAdapter, ValidationError

from streamer import settings
from streamer.errors import CommandError, SinkError, UsageError
from streamer.host.printable import printable
from streamer.payloads import AnswerPayload, CommandName, CommandPayload, to_json
from streamer.settings import Name, Settings
from streamer.sinks.client import MAYBE_OLD, PASSWORD, USER, explain, failure, tls_context
from streamer.sinks.settings import MqttSettings
from streamer.sinks.topics import OFFLINE, ONLINE, PREFIX, availability_topic

WAIT_S = 10.0  # longest time to wait for the engine's answer


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sleepstream command`."""
    parser.add_argument("stream", help="name of the sleeper")
    parser.add_argument(
        "say", metavar="COMMAND", choices=get_args(CommandName), help=", ".join(get_args(CommandName))
    )
    parser.add_argument(
        "text", nargs="?", default="", help="text of the mark, name of the trigger, or time of the alarm"
    )
    parser.add_argument(
        "--config", type=Path, metavar="C.toml", help="the engine's settings, for node, streams and broker"
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=WAIT_S,
        metavar="S",
        help=f"how long to wait for the answer (default: {WAIT_S:g} s); 0: do not wait for it",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 3600 s")
    return value


def run(asked: argparse.Namespace) -> int:
    """Send the command and wait for the answer; return the exit code."""
    if len(asked.text) > 200:
        raise UsageError(f"the text has {len(asked.text)} characters; at most 200 are allowed")
    try:
        TypeAdapter(Name).validate_python(asked.stream)
    except ValidationError:
        raise UsageError(
            f"{asked.stream[:64]!r} is not a stream's name: use letters, digits, _ . and - only"
        ) from None
    node, mqtt = _broker(asked.config, asked.stream)
    command = CommandPayload(command=asked.say, text=asked.text, id=secrets.token_hex(8))
    asyncio.run(tell(mqtt, node, asked.stream, command, asked.wait))
    return 0


def _broker(config: Path | None, stream: str) -> tuple[str, MqttSettings]:
    """The engine's node and broker, from the settings or else the defaults."""
    if config is None:
        return str(Settings.model_fields["node"].default), MqttSettings()
    found = settings.load(config)
    names = [one.name for one in found.stream]
    if stream not in names:
        raise UsageError(f"{config} has no stream {stream!r}; it has {', '.join(names)}")
    if found.mqtt is None:
        raise UsageError(f"{config} has no [mqtt], so its engine receives no commands")
    return found.node, found.mqtt


async def tell(mqtt: MqttSettings, node: str, stream: str, command: CommandPayload, wait_s: float) -> None:
    """Send a command over MQTT 5 or 3.1.1, and wait until it is carried out.

    Args:
        mqtt: the broker.
        node: name of the engine.
        stream: name of the sleeper.
        command: the command; its `id` identifies the answer.
        wait_s: how long to wait for the answer; 0: only until the broker has the command.

    Raises:
        CommandError: the engine refuses the command, or no engine answers in time.
        SinkError: the broker cannot be reached, or refuses.

    """
    call = _Call(mqtt, node, stream, command, wait_s)
    try:
        await call.make(ProtocolVersion.V5)
    except MqttError as error:
        if failure(error) not in MAYBE_OLD:
            raise SinkError(explain(error, mqtt)) from error
        try:
            await call.make(ProtocolVersion.V311)
        except MqttError as again:
            raise SinkError(explain(again, mqtt)) from again


class _Call:
    """One command, from its publication to its answer."""

    def __init__(
        self, mqtt: MqttSettings, node: str, stream: str, command: CommandPayload, wait_s: float
    ) -> None:
        self._mqtt = mqtt
        self._node = node
        self._root = f"{PREFIX}/{node}/{stream}"
        self._stream = stream
        self._command = command
        self._wait_s = wait_s
        self._engine = ""  # the node's availability: online, offline, or "" if not received yet

    async def make(self, protocol: ProtocolVersion) -> None:
        client = aiomqtt.Client(  # with a random identifier: the engine's own would end its connection
            self._mqtt.host,
            self._mqtt.port,
            username=os.environ.get(USER),
            password=os.environ.get(PASSWORD),
            protocol=protocol,
            timeout=self._mqtt.timeout_s,
            tls_context=tls_context(self._mqtt),
        )
        async with client:
            if self._wait_s:
                for topic in (f"{self._root}/answer", availability_topic(self._node)):
                    await client.subscribe(topic, qos=1)
            await client.publish(
                f"{self._root}/command", to_json(self._command), qos=1, properties=self._properties(protocol)
            )
            if self._wait_s:
                await self._wait(client)

    def _properties(self, protocol: ProtocolVersion) -> Properties | None:
        if protocol is not ProtocolVersion.V5:
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = str(self._command.id).encode()
        return properties

    async def _wait(self, client: aiomqtt.Client) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                answer = await self._answer(client)
        except TimeoutError:
            raise CommandError(self._silence()) from None
        except MqttError as error:  # some brokers disconnect a client that publishes without permission
            where = f"broker {self._mqtt.host}:{self._mqtt.port}"
            raise SinkError(
                f"{where} ended the connection: is this user allowed to publish to {self._root}/command?"
            ) from error
        if not answer.done:
            raise CommandError(f"{self._command.command} was refused: {answer.reason}")

    async def _answer(self, client: aiomqtt.Client) -> AnswerPayload:
        """Wait for the answer to this command."""
        async for message in client.messages:
            body = message.payload
            if not isinstance(body, bytes):
                continue
            if message.topic.matches(availability_topic(self._node)):
                self._engine = printable(body.decode(errors="replace"))
                if self._engine == OFFLINE and message.retain:
                    raise CommandError(self._silence())
                continue
            try:
                answer = AnswerPayload.model_validate_json(body)
            except ValidationError:
                continue
            if answer.id == self._command.id:
                return answer
        raise MqttError("Disconnected while waiting for the answer")

    def _silence(self) -> str:
        """The likely reason why no answer came."""
        where = f"broker {self._mqtt.host}:{self._mqtt.port}"
        if self._engine == OFFLINE:
            return f"no engine of node {self._node!r} is connected to {where}: start it, or give --config"
        if self._engine == ONLINE:
            return (
                f"node {self._node!r} is connected to {where}, but its {self._stream!r} did not answer "
                f"within {self._wait_s:g} s: does it have such a stream?"
            )
        return (
            f"no engine answered within {self._wait_s:g} s: none has ever connected to {where} as node "
            f"{self._node!r}; start it, or give --config"
        )
