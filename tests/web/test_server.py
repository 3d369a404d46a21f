"""The page over real sockets: files, refusals, updates, clients that come, go, stall and flood."""

import asyncio
import contextlib
import json
import re
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from streamer.clock import SystemClock
from streamer.errors import SettingsError, SinkError
from streamer.night.morning import Link
from streamer.web import server as serving
from streamer.web.page import Page
from streamer.web.server import STATIC, WebServer
from streamer.web.settings import WebSettings
from tests.web.pages import Bed, bed

TOKEN = "0123456789abcdef"


def serve(anna, token=None, **settings):
    return WebServer(WebSettings(port=0, **settings), anna.page, token, period_s=0.01)


async def get(server, path="/", **headers):
    """Status, headers and body of one plain request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    sent = {"Host": f"127.0.0.1:{server.port}", **headers}
    writer.write(f"GET {path} HTTP/1.1\r\n".encode())
    writer.write("".join(f"{name}: {value}\r\n" for name, value in sent.items()).encode() + b"\r\n")
    raw = await reader.read()
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


async def news(socket):
    async with asyncio.timeout(60):
        return json.loads(await socket.recv())["streams"]


def live(server, **extra):
    return connect(f"ws://127.0.0.1:{server.port}/live", proxy=None, **extra)


def test_reports_that_are_linked_are_served_and_no_other_file(tmp_path):
    night, other = tmp_path / "2026 anna.html", tmp_path / "other.html"
    night.write_text("<p>slept</p>")
    other.write_text("not linked")

    async def run():
        anna = bed(SystemClock())
        async with serve(anna, TOKEN) as server:
            _, given, _ = await get(server, f"/?token={TOKEN}")
            known = {"Cookie": given["Set-Cookie"].split(";")[0]}
            socket = await live(server, additional_headers=known)
            assert (await news(socket))[0]["reports"] == []
            anna.page.reported(
                "anna", [Link("2026-01-01", night), Link("2025-12-31", tmp_path / "gone.html")]
            )
            (told,) = await news(socket)
            urls = [one["url"] for one in told["reports"]]
            assert urls[0] == "reports/2026%20anna.html"
            status, headers, body = await get(server, f"/{urls[0]}", **known)
            assert (status, body) == (200, b"<p>slept</p>")
            assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src")
            for path in (
                urls[1],
                "reports/other.html",
                "reports/../other.html",
                "reports/",
                "reports/%2e%2e",
            ):
                assert (await get(server, f"/{path}", **known))[0] == 404
            assert (await get(server, f"/{urls[0]}"))[0] == 403
            anna.stage("N2")
            assert "reports" not in (await news(socket))[0]
            await socket.close()

    asyncio.run(run())


def test_the_files_are_served_and_nothing_else():
    async def run():
        async with serve(bed(SystemClock())) as server:
            for path, kind in [
                ("/", "text/html"),
                ("/page.css", "text/css"),
                ("/page.js", "text/javascript"),
                ("/charts.js", "text/javascript"),
            ]:
                status, headers, body = await get(server, path)
                assert (status, len(body)) == (200, int(headers["Content-Length"]))
                assert headers["Content-Type"].startswith(kind)
                policy = headers["Content-Security-Policy"]
                assert "default-src 'none'" in policy
                assert "http" not in policy
                assert "*" not in policy
            for path in (
                "/none",
                "/../server.py",
                "//etc/passwd",
                "/page.js/",
                "/static/page.js",
                "/%2e%2e/x",
            ):
                assert (await get(server, path))[0] == 404

    asyncio.run(run())


def test_the_page_asks_for_nothing_from_outside():
    for path in Path(STATIC).iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|//\w+\.\w+/|@import|eval\(", text), path.name


def test_refusals_over_the_wire():
    async def run():
        async with serve(bed(SystemClock())) as server:
            assert (await get(server, "/", Host="evil.example"))[0] == 403
            assert (await get(server, "/live", Origin="http://evil.example"))[0] == 403
            with pytest.raises(InvalidStatus):
                await live(server, origin="http://evil.example")
            async with live(server, origin=f"http://127.0.0.1:{server.port}") as socket:
                assert await news(socket)

    asyncio.run(run())


def test_the_token_opens_the_page_and_leaves_the_address():
    async def run():
        async with serve(bed(SystemClock()), TOKEN) as server:
            assert (await get(server))[0] == 403
            assert (await get(server, "/live"))[0] == 403
            assert (await get(server, "/?token=wrong"))[0] == 403
            status, headers, _ = await get(server, f"/?token={TOKEN}")
            assert (status, headers["Location"]) == (303, "/")
            assert headers["Referrer-Policy"] == "no-referrer"
            cookie = headers["Set-Cookie"].split(";")[0]
            assert (await get(server, "/", Cookie=cookie))[0] == 200
            async with live(server, additional_headers={"Cookie": cookie}) as socket:
                assert await news(socket)

    asyncio.run(run())


def test_beyond_loopback_it_does_not_even_start_without_a_token():
    with pytest.raises(SettingsError, match="token"):
        serve(bed(SystemClock()), host="0.0.0.0")


def test_a_port_in_use_is_one_line():
    async def run():
        async with serve(bed(SystemClock())) as server:
            with pytest.raises(SinkError, match=r"live page cannot listen on port"):
                async with WebServer(WebSettings(port=server.port), Page(SystemClock())):
                    pass

    asyncio.run(run())


def test_updates_reach_every_client_and_commands_come_back():
    async def run():
        anna = bed(SystemClock())
        obeyed = asyncio.Event()
        anna.obeyed = obeyed.set
        async with serve(anna) as server, live(server) as one, live(server) as other:
            assert (await news(one))[0]["labels"] == ""
            assert (await news(other))[0]["labels"] == ""
            anna.stage("N2")
            assert (await news(one))[0]["labels"] == "2"
            assert (await news(other))[0]["labels"] == "2"
            await one.send(json.dumps({"stream": "anna", "command": "mark", "text": "now"}))
            await one.send(b"not text")
            async with asyncio.timeout(60):
                await obeyed.wait()
            assert anna.commands[0].text == "now"

    asyncio.run(run())


def test_a_client_that_does_not_read_costs_nothing_and_then_gets_the_newest():
    async def run():
        anna = bed(SystemClock())
        Bed(anna.page, "ben")
        async with serve(anna) as server, live(server, max_queue=1) as slow, live(server) as quick:
            for number in range(200):
                anna.stage("N2" if number < 199 else "R")
                if number % 50 == 49:
                    await news(quick)
            seen = ""
            while len(seen) < 200:
                (found, _) = await news(slow)
                assert found["from"] == len(seen)
                seen += found["labels"]
            assert seen == "2" * 199 + "R"

    asyncio.run(run())


def test_too_many_clients_are_turned_away_and_a_place_is_free_again(monkeypatch):
    monkeypatch.setattr(serving, "MAX_CLIENTS", 2)

    async def run():
        async with serve(bed(SystemClock())) as server:
            async with live(server) as one, live(server) as other:
                await news(one)
                await news(other)
                with pytest.raises(InvalidStatus, match="503"):
                    await live(server)
            for _ in range(1000):
                with contextlib.suppress(InvalidStatus):
                    async with live(server) as again:
                        await news(again)
                        return
            raise AssertionError("no place became free")

    asyncio.run(run())


def test_what_a_client_may_send_is_bounded():
    async def run():
        anna = bed(SystemClock())
        async with serve(anna) as server, live(server) as flooding, live(server) as other:
            await flooding.send("x" * 5000)
            await flooding.wait_closed()
            await news(other)
            anna.stage("W")
            assert (await news(other))[0]["labels"] == "W"
        assert (anna.commands, anna.refused) == ([], [])

    asyncio.run(run())


def test_leaving_ends_every_client():
    async def run():
        anna = bed(SystemClock())
        async with serve(anna) as server:
            socket = await live(server)
            await news(socket)
        await socket.wait_closed()
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "page client" not in names

    asyncio.run(run())


def test_a_thousand_who_say_nothing_use_up_no_files_and_keep_nobody_out():
    async def run():
        async with serve(bed(SystemClock())) as server:
            idle = []
            for _ in range(10):  # sixteen at once, as many as the loop takes
                come = (asyncio.open_connection("127.0.0.1", server.port) for _ in range(16))
                idle += await asyncio.gather(*come)
                assert len(server._newcomers) <= serving.MAX_NEWCOMERS
            async with live(server) as socket:
                await news(socket)
                status, _, _ = await get(server)
                idle += [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
                await (await socket.ping())  # who watches is never put out for them
            assert len(server._server.connections) <= serving.MAX_NEWCOMERS
            for _, writer in idle:
                writer.close()
        return status

    assert asyncio.run(asyncio.wait_for(run(), 60)) == 200


def test_who_asks_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE_S", 0.05)

    async def run():
        async with serve(bed(SystemClock())) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            assert await reader.read() == b""
            writer.close()
            await asyncio.sleep(0)
            return server._newcomers

    assert asyncio.run(asyncio.wait_for(run(), 60)) == {}
