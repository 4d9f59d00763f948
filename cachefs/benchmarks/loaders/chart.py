"""A bar chart as a PNG file, by matplotlib where it is installed.

It is not among our dependencies: with what it brings it is larger than everything else together, and
the table says the same. Text in a PNG needs fonts, which is most of what it does for us.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

_OURS = "#1f6feb"
_OTHERS = "#8b949e"


def draw_rates(path: Path, title: str, rates: Mapping[str, float]) -> bool:
    """Draw one bar for each name, the longest first; ``False`` without matplotlib.

    Args:
        path: Of the PNG file.
        title: Which says the unit.
        rates: By name; those that begin with ``cachefs`` stand out.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return False
    figure_of = importlib.import_module("matplotlib.figure").Figure
    names = sorted(rates, key=lambda name: rates[name])
    figure = figure_of(figsize=(8, 0.6 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = [_OURS if name.startswith("cachefs") else _OTHERS for name in names]
    bars = axes.barh(names, [rates[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_title(title)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    return True
