"""What a package may hold, and unpacking it.

The operator, the command line and the nodes judge packages by this one module, so that none of them accepts what
another refuses. It needs the standard library and isal alone.

``inspect`` judges a ZIP file without unpacking it, ``verify`` also looks at all its contents, ``extract`` judges and
unpacks it, ``unpack`` does so while it is still on its way. They take the central directory for the truth and compare
the rest of the file with it, so that no other reader can see another content.
"""

from packhorse.archive.errors import ArchiveError
from packhorse.archive.extraction import extract, unpack
from packhorse.archive.inspection import inspect, verify
from packhorse.archive.limits import Limits, Summary

__all__ = ["ArchiveError", "Limits", "Summary", "extract", "inspect", "unpack", "verify"]
