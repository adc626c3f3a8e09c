"""Headless Chromium, driven over a pipe by its own protocol (chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # offline, but for this machine
    "--remote-debugging-pipe",
)
TIMEOUT_S = 60.0  # for one command, on a busy machine


def find_chromium() -> str | None:
    """The program; None where it is not installed."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


class Browser:
    """One page of a Chromium that reads commands from file descriptor 3 and answers on 4."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.requested: list[str] = []  # every address that the page asked for
        self.problems: list[str] = []  # what its console told as an error
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self._do(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go there; returns when the page is loaded."""
        found = self._do("Page.navigate", url=url)
        assert "errorText" not in found, found
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def wait(self, expression: str) -> None:
        """Until a JavaScript expression is true."""
        ends = time.monotonic() + TIMEOUT_S
        look = f"new Promise((done) => setTimeout(() => done(Boolean({expression})), 20))"
        while self.value(look) is not True:
            assert time.monotonic() < ends, f"never true: {expression}\n{self.value('document.body.innerText')}"

    def value(self, expression: str) -> Any:
        """Of a JavaScript expression, or of the promise that it is."""
        found = self._do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of what is there."""
        middle = """(() => {
            const found = document.querySelector(%s);
            found.scrollIntoView({ block: "center" });
            const box = found.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2, box.width];
        })()"""
        x, y, width = self.value(middle % json.dumps(selector))
        assert width > 0, f"{selector} is not to be seen"
        for kind in ("mousePressed", "mouseReleased"):
            self._do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector: str, text: str) -> None:
        """Into a field, after a click on it."""
        self.click(selector)
        self._do("Input.insertText", text=text)

    def _do(self, method: str, **parameters: Any) -> Any:
        """One command's result; what else comes meanwhile is noted."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._next()).get("id") != self._number:
            self._note(message)
        assert "error" not in message, (method, message)
        return message["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], TIMEOUT_S)
            part = os.read(self._answers, 65536) if ready else b""
            assert part, "Chromium does not answer"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(message["params"]["exceptionDetails"]))


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A new Chromium with an empty profile, which is killed at the end with all its processes."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # above 4, so that giving one its number in the child takes no other one's
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]
    actions = [
        (os.POSIX_SPAWN_DUP2, high[0], 3),
        (os.POSIX_SPAWN_DUP2, high[1], 4),
        *((os.POSIX_SPAWN_OPEN, end, os.devnull, os.O_RDWR, 0) for end in (0, 1, 2)),
    ]
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    pid = os.posix_spawn(program, command, {**os.environ, "HOME": str(profile)}, file_actions=actions, setpgroup=0)
    for end in (theirs_in, theirs_out, *high):
        os.close(end)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ours_out)
        os.close(ours_in)
