"""Keeps gRPC out of the child processes of its process. Imported before gRPC, which reads the variable when it loads.

gRPC's core starts its threads anew in every child that is forked, and they crash it now and then before it becomes the
program that it was forked for: uvloop forks, where asyncio's own loop does not, and one child in seven was lost.
Nothing of ours speaks gRPC in a forked child.
"""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
