"""Resource manifests: from YAML and JSON text to checked messages, with every problem at its place in the file.

Needs no server and no network.
"""

from stigmer_cli.manifests.files import read_files
from stigmer_cli.manifests.manifest import Manifest, load

__all__ = ["Manifest", "load", "read_files"]
