"""The HTTP API and the studio.

Three kinds of process: the server (an event loop that never computes), the *worker* (models, torch) and the
*readers* (bars; one for what strangers upload, within limits of memory and time, one for what is already accepted).
They speak JSON lines over pipes; see :mod:`kronos.serve.child`.
"""
