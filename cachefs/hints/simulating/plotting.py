"""Plotting: policies side by side, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cachefs.errors import ConfigError

_LEAST_SECONDS = 0.1
"""What is ready at once is drawn here: a logarithmic axis has no zero."""


def require_charts() -> None:
    """See to it that pictures can be drawn, before hours are spent on what they would show.

    Raises:
        ConfigError: The library is not installed.
    """
    _pyplot()


def plot_waits(path: Path, title: str, waits: Mapping[str, Sequence[float]]) -> None:
    """Draw for each policy which share of the requests was ready within how many seconds.

    Args:
        path: The picture's; its ending says which kind: ``.png``, ``.svg`` …
        title: Above it.
        waits: Seconds to ready, all seeds together, by policy.

    Raises:
        ConfigError: The library is not installed, or the picture cannot be written.
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for policy, seconds in waits.items():
        ordered = sorted(max(each, _LEAST_SECONDS) for each in seconds)
        shares = [1 - number / len(ordered) for number in range(len(ordered))]
        mean = sum(seconds) / len(seconds)
        axes.step(ordered, shares, where="post", label=f"{policy}, mean {mean:.1f} s")
    axes.set(xscale="log", yscale="log", title=title)
    axes.set_xlabel("seconds to ready")
    axes.set_ylabel("share of requests that took longer")
    axes.set_ylim(bottom=1e-3, top=1.0)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    try:
        figure.savefig(path, dpi=120, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the plot cannot be written: {error}", subject=str(path)) from error
    finally:
        pyplot.close(figure)


def _pyplot() -> Any:  # Any: a module that may not be installed
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra that only plots need
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "a plot needs matplotlib", hint="pip install 'cachefs-ai[charts]'"
        ) from error
    mpl.use("agg")
    return plt
