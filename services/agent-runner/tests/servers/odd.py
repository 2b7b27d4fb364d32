"""An MCP server that does what it should not: `rubbish` writes other things than messages, `mute` never answers."""

import sys
import time

if sys.argv[1] == "rubbish":
    print("Traceback: no such module", file=sys.stderr)
    while True:
        print("all work and no play", flush=True)
print("thinking", file=sys.stderr, flush=True)
time.sleep(1000)
