"""The inventory: what a hint is reckoned from, kept up to date in the background.

It knows the nodes (:attr:`Inventory.fleet`), the links that they share (:attr:`Inventory.links`) and where
the bytes of datasets are (:meth:`Inventory.find`). It learns of nodes from the workers' renewals and from
*sources* of nodes (:mod:`.sources`): a file for plain clusters, Kubernetes. All that takes long is done
ahead, in a thread of its own: whoever asks gets what was found last, at most a few tenths of a second old.

How to use it::

    inventory = Inventory(parts)         # of the coordinator's process; see coordinator/duties.py
    inventory.start()
    found = [inventory.find(reading) for reading in question.readings]   # first, without the turn
    with inventory.turn():               # short: nothing in the inventory moves meanwhile
        located = [locate(one.spread, inventory.fleet) for one in found if one is not None]
        estimated = estimate(inventory.fleet, together(located), inventory.links, ...)
    inventory.close()
"""

from cachefs.hints.inventory.facts import Facts
from cachefs.hints.inventory.found import Found
from cachefs.hints.inventory.inventory import Inventory
from cachefs.hints.inventory.sources import Listing, NodeSource

__all__ = ["Facts", "Found", "Inventory", "Listing", "NodeSource"]
