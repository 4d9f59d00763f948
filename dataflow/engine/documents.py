"""Documents of flows, read once: a run is submitted and then begun with the same text."""

from collections import OrderedDict

from cachefs.dataflow.spec.model import Flow
from cachefs.dataflow.spec.reading import read_flow
from cachefs.ports import Runtime

_KEPT = 8
"""A flow of 10,000 steps takes tens of megabytes, and seconds to read."""


class Documents:
    """Reads documents, and remembers the last of them. Safe from any thread."""

    def __init__(self, runtime: Runtime) -> None:
        """Remember nothing yet."""
        self._turn = runtime.condition()
        self._flows: OrderedDict[str, Flow] = OrderedDict()

    def read(self, document: str, *, file: str) -> Flow:
        """Return the flow that a document says.

        Args:
            document: YAML or JSON.
            file: Its name, for messages.

        Raises:
            ConfigError: It is none; the message has every problem.
        """
        with self._turn:
            known = self._flows.get(document)
            if known is not None:
                self._flows.move_to_end(document)
                return known
        flow = read_flow(document, name=file)
        with self._turn:
            self._flows[document] = flow
            while len(self._flows) > _KEPT:
                self._flows.popitem(last=False)
        return flow
