"""Headless Chromium for the commands that look at the page; Debian's, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from streamer.errors import UsageError

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

LOOK_S = 0.1  # between two looks


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that asks nobody anything.

    Raises:
        UsageError: there is none.

    """
    if PROGRAM is None:
        raise UsageError("no chromium was found; install it: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=list(FLAGS), timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()


def until(page: Page, expression: str, patience_s: float = 60.0) -> None:
    """Wait until an expression is true; Playwright's own wait needs an `eval` that the page's policy forbids.

    Raises:
        TimeoutError: it never was.

    """
    for _ in range(round(patience_s / LOOK_S)):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(1000 * LOOK_S)
    raise TimeoutError(f"not true within {patience_s:g} s: {expression}")
