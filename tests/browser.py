"""A real browser for tests: Chromium without a window, driven over a pair of pipes by the DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
"""The program, if one is installed."""

PHONE, DESK = (360, 740), (1280, 900)
"""Widths and heights of screens, in CSS pixels."""


class Tab:
    """A tab of the browser, which notes what a page complains about and asks for.

    Attributes
    ----------
    complaints : list of str
        Messages of its console, and exceptions.
    asked : list of str
        The addresses that it loaded.
    """

    def __init__(self, to: int, answers: int) -> None:
        self._to, self._answers = to, answers
        self._number, self._session, self._rest = 0, "", b""
        self.complaints: list[str] = []
        self.asked: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Log", "Network", "Page", "Runtime"):
            self._call(f"{domain}.enable")

    def show(self, page: Path, size: tuple[int, int] = DESK, *, dark: bool = False) -> None:
        """Load a page on a screen of `size`, light or dark, and wait until it is there."""
        self.complaints, self.asked = [], []
        width, height = size
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def says(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self) -> bytes:
        """Return what is seen, as a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _call(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._answers, 1 << 16)
            assert more, "the browser went away"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        match message.get("method"):
            case "Log.entryAdded" | "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]))
            case "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
        return message


@contextmanager
def opened(profile: Path) -> Iterator[Tab]:
    """Start the browser with a profile of its own, and end it afterwards."""
    assert CHROMIUM is not None
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    arguments = [
        "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        "--no-first-run", "--disable-dev-shm-usage",
    ]  # fmt: skip
    # The protocol is spoken on the descriptors 3 and 4; a shell gives them these numbers.
    script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    with subprocess.Popen(
        ["bash", "-c", script, CHROMIUM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs_in, theirs_out),
    ) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            tab = Tab(ours_out, ours_in)
            yield tab
        finally:
            os.close(ours_out)
            os.close(ours_in)
            process.terminate()
            process.wait(30)
