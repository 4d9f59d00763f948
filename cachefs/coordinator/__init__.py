"""The coordinator: datasets, members, warm-ups and events. It never touches a byte of a file.

:mod:`.service` is what can be asked; the gRPC service (:mod:`.control`) and the HTTP API (:mod:`.http`, with
:mod:`.bodies`, behind the :mod:`.gate`) only translate. The rules are in a module for each subject:
:mod:`.catalogue` (datasets and versions, from :mod:`.listing`), :mod:`.members`, :mod:`.residency`,
:mod:`.warming`, :mod:`.pins`, :mod:`.pools`. They follow the pure rules of :mod:`cachefs.core` and keep what
they know in the :mod:`.store`; :mod:`.calls` asks workers. :mod:`.process` puts it all together.
"""
