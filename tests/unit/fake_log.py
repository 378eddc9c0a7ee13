"""The log of a process (spyglass.log.Log), kept in lists."""


class FakeLog:
    """`lines` is what was logged, `debugged` what was logged for debugging only, and
    `tracebacks` are the exceptions.
    """

    debugging = journal = False
    fd = 2

    def __init__(self):
        self.lines, self.debugged, self.tracebacks = [], [], []

    def error(self, text):
        self.lines.append(text)

    warning = info = error

    def debug(self, text):
        self.debugged.append(text)

    def exception(self, text, error):
        self.lines.append(text)
        self.tracebacks.append(error)
