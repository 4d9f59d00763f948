"""Flows: what people do with models, as one document: scale, copy, prefetch, wait, roll out.

:mod:`.spec` reads and checks documents, :mod:`.machine` decides what happens next (pure), :mod:`.engine`
makes it happen and survives crashes, :mod:`.steps` are the kinds of steps, :mod:`.planning` says
beforehand what it will take.
"""
