"""``python -m bench.demo.serving``: what the demo's flow starts: replicas that serve, and their test.

A replica loads the model through the cache, as a model server would, says ``ready`` once it can answer, and
stays. The test loads it too, and computes.
"""

import os
import signal
import sys

from bench.demo.model import SentenceEncoder, load_safetensors
from cachefs.sdk import open_dataset

_SENTENCES = ("the replicas are ready", "all copies can answer now")


def main() -> int:
    """Be what the first argument says: ``replica`` or ``test``."""
    with open_dataset(os.environ["MODEL"]) as model:
        weights, vocabulary = model.read("model.safetensors"), model.read("vocab.txt")
    encoder = SentenceEncoder(load_safetensors(memoryview(weights)), vocabulary.decode())
    if sys.argv[1] == "replica":
        print("ready", flush=True)
        signal.pause()
    first, second = map(encoder.encode, _SENTENCES)
    print(f"{float(first @ second):.2f} is how near “{_SENTENCES[0]}” is to “{_SENTENCES[1]}”")
    return 0


if __name__ == "__main__":
    sys.exit(main())
