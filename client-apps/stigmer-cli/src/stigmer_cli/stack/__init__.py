"""The local stack: Temporal, the server and the runners, started, watched and ended by one process.

It knows processes, ports and files, and nothing of resources or runs.
"""
