"""What our processes say to each other: names, layouts and encodings, without any I/O.

:mod:`.http` is the data plane, :mod:`.local` the Unix socket, ``proto/cachefs.proto`` the control plane,
whose messages :mod:`.messages` turns into values and back. :mod:`.failures` has the errors that may cross,
:mod:`.digests` the digests of blocks.
"""
