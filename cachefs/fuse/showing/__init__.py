"""What a mount shows: folders, files, attributes, bytes; without the kernel.

:mod:`.operations` is the only thing that engines call. Below it lie the :mod:`.tree` of one version,
the numbered :mod:`.trees` of one mount, and the :mod:`.namespace`, which says where each of them is
shown; :mod:`.currents` and the :mod:`.catalogue` know what may be different tomorrow. :mod:`.opened`
gives the bytes, :mod:`.xattrs` what files tell of themselves. :mod:`.memory` is what another process
needs to show the same, and :mod:`.errno` the table of errors.
"""
