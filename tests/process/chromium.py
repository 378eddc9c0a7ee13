"""A headless Chromium to look at pages with, spoken to over two pipes
(--remote-debugging-pipe: the DevTools protocol, JSON, NUL-ended).
"""

import base64
import itertools
import json
import os
import shutil
import subprocess

from waiting import wait_until

PATIENCE = 60.0  # seconds; on a busy machine it takes its time to begin
_FLAGS = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ),
]


class Chromium:
    """One page of it. `requests` (URLs) is what it has asked for, `complaints` what it
    had to say about that, until `end()`.
    """

    def __init__(self, place):
        program = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))))
        theirs, self._commands = os.pipe()
        self._events, theirs_too = os.pipe()
        command = [program, "--remote-debugging-pipe", f"--user-data-dir={place}", *_FLAGS]
        # Descriptors 3 and 4 are where it looks for them.
        script = f'exec 3<&{theirs} 4>&{theirs_too}; exec "$@"'
        environ = {"PATH": os.environ["PATH"], "HOME": str(place), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self._log = open(place / "log", "wb")
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=[theirs, theirs_too],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(theirs)
        os.close(theirs_too)
        self._numbers = itertools.count(1)
        self._data = b""
        self._session = None
        self.requests, self.complaints, self._loaded = [], [], 0
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._do("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self._do(f"{domain}.enable")

    def _do(self, method, **parameters):
        """Its answer to a command; whatever else it tells is noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._hear()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _hear(self):
        while b"\0" not in self._data:
            more = os.read(self._events, 1 << 20)
            assert more, "Chromium has ended"
            self._data += more
        text, _, self._data = self._data.partition(b"\0")
        message = json.loads(text)
        method, parameters = message.get("method"), message.get("params")
        if method == "Network.requestWillBeSent" and not parameters["request"]["url"].startswith(
            "data:"
        ):
            self.requests.append(parameters["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded += 1
        elif method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(parameters))
        return message

    def open(self, url, *, scheme="light", motion="no-preference", size=(1000, 900)):
        """Show the page at `url` to somebody who prefers that, in a window of that
        size, when it has been loaded.
        """
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self._do("Emulation.setEmulatedMedia", features=features)
        self._do(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size[0] < 600,
        )
        self.requests, self.complaints, self._loaded = [], [], 0
        answer = self._do("Page.navigate", url=url)
        assert "errorText" not in answer, answer["errorText"]
        while not self._loaded:
            self._hear()

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page."""
        answer = self._do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression):
        """Wait until it is true in the page."""
        wait_until(lambda: self.evaluate(expression), PATIENCE, f"not true: {expression}")

    def screenshot(self, path, **how):
        with open(path, "wb") as stream:
            stream.write(base64.b64decode(self._do("Page.captureScreenshot", **how)["data"]))

    def end(self):
        """Its children, which hold its profile open, end when it has told them to."""
        os.close(self._commands)  # without somebody to obey it leaves
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._events)
            self._log.close()
