"""`sleepstream command`: says something to an engine that runs, through its broker."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import get_args

import aiomqtt
from aiomqtt import MqttError, ProtocolVersion

from streamer import settings
from streamer.errors import SinkError, UsageError
from streamer.payloads import CommandName, CommandPayload, to_json
from streamer.settings import Settings
from streamer.sinks.client import PASSWORD, USER, explain, speaks_only_3, tls_context, unanswered
from streamer.sinks.settings import MqttSettings


def add_command(parser: argparse.ArgumentParser) -> None:
    """Describe the command to the command line."""
    parser.set_defaults(command=_command)
    parser.add_argument("stream", help="name of the sleeper")
    parser.add_argument(
        "say", metavar="COMMAND", choices=get_args(CommandName), help=", ".join(get_args(CommandName))
    )
    parser.add_argument("text", nargs="?", default="", help="of a mark; name of a trigger; time of the alarm")
    parser.add_argument("--config", type=Path, metavar="C.toml", help="for node, streams and broker")


def _command(asked: argparse.Namespace) -> int:
    if len(asked.text) > 200:
        raise UsageError(f"a text of {len(asked.text)} characters; at most 200 are allowed")
    node, mqtt = _broker(asked.config, asked.stream)
    body = to_json(CommandPayload(command=asked.say, text=asked.text))
    asyncio.run(publish(mqtt, f"sleepstream/{node}/{asked.stream}/command", body))
    return 0


def _broker(config: Path | None, stream: str) -> tuple[str, MqttSettings]:
    """The engine's node and broker; without a configuration, those of an engine that has none, either."""
    if config is None:
        return str(Settings.model_fields["node"].default), MqttSettings()
    found = settings.load(config)
    names = [one.name for one in found.stream]
    if stream not in names:
        raise UsageError(f"{config} has no stream {stream!r}; it has {', '.join(names)}")
    if found.mqtt is None:
        raise UsageError(f"{config} has no [mqtt], so that engine cannot be told anything")
    return found.node, found.mqtt


async def publish(mqtt: MqttSettings, topic: str, body: str) -> None:
    """Publish one message and wait until the broker has it, in MQTT 5 or 3.1.1.

    Raises:
        SinkError: the broker cannot be reached, or refuses.

    """
    try:
        await _publish(mqtt, topic, body, ProtocolVersion.V5)
    except MqttError as error:
        if not speaks_only_3(error) and not unanswered(error):
            raise SinkError(explain(error, mqtt)) from error
        try:
            await _publish(mqtt, topic, body, ProtocolVersion.V311)
        except MqttError as again:
            raise SinkError(explain(again, mqtt)) from again


async def _publish(mqtt: MqttSettings, topic: str, body: str, protocol: ProtocolVersion) -> None:
    client = aiomqtt.Client(  # with a name of its own: the engine's would end the engine's connection
        mqtt.host,
        mqtt.port,
        username=os.environ.get(USER),
        password=os.environ.get(PASSWORD),
        protocol=protocol,
        timeout=mqtt.timeout_s,
        tls_context=tls_context(mqtt),
    )
    async with client:
        await client.publish(topic, body, qos=1)
