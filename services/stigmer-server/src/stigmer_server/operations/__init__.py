"""The operations of `stigmer-server`, one a module."""

from stigmer_server.operations.backup import BACKUP
from stigmer_server.operations.check import CHECK
from stigmer_server.operations.compact import COMPACT
from stigmer_server.operations.port import Operation, Result
from stigmer_server.operations.prune import PRUNE
from stigmer_server.operations.restore import RESTORE
from stigmer_server.operations.rotate_key import ROTATE_KEY

__all__ = ["OPERATIONS", "Operation", "Result"]

OPERATIONS = (BACKUP, RESTORE, CHECK, ROTATE_KEY, PRUNE, COMPACT)
