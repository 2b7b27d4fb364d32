"""Lint the sources in `proto/` with buf: the rules of `buf.yaml`, and the layout of `buf format`.

Usage:
    python packages/stigmer-protos/scripts/lint.py          report, and exit 1 when there is something to report
    python packages/stigmer-protos/scripts/lint.py --fix    lay the sources out anew first

buf is given an image that `generate` compiles, so it needs no registry and no network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from generate import PACKAGE, PROTO, SCRIPTS, compile_sources, source_names

BUF = SCRIPTS / "buf"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Lint the sources in proto/ with buf.")
    parser.add_argument("--fix", action="store_true", help="lay the sources out anew first")
    layout = ["--write"] if parser.parse_args().fix else ["--diff", "--exit-code"]
    laid_out = subprocess.run([BUF, "format", PROTO, *layout], check=False).returncode
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.binpb"
        image.write_bytes(compile_sources(source_names()).SerializeToString())
        linted = subprocess.run([BUF, "lint", image, "--config", PACKAGE / "buf.yaml"], check=False).returncode
    return 1 if laid_out or linted else 0


if __name__ == "__main__":
    sys.exit(main())
