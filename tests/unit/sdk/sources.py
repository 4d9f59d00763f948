"""A source in memory, which counts, fails and waits as a test wants."""

import threading


class MemorySource:
    """Implements :class:`cachefs.sdk.safetensors.sources.Source`; never whole on this node."""

    def __init__(self, content, name="memory"):
        self.name = name
        self.content = content
        self.reads = []
        self.fail_beyond = len(content)
        self.gate = threading.Event()
        self.gate.set()
        self.gated_from = 0

    @property
    def size(self):
        return len(self.content)

    @property
    def bytes_read(self):
        return sum(length for _, length in self.reads)

    def read_into(self, offset, into):
        if offset >= self.gated_from:
            assert self.gate.wait(10)
        if offset + len(into) > self.fail_beyond:
            raise OSError("the source fails here")
        self.reads.append((offset, len(into)))
        into[:] = self.content[offset : offset + len(into)]

    def whole(self):
        return None

    def close(self):
        pass
