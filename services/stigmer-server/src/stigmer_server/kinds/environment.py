"""Environment: named values, some of them secret, that instances layer over each other."""

from __future__ import annotations

from stigmer_server.kinds.port import Kind

KIND = Kind(name="environment", secrets=("spec.data",))
