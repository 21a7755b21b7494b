"""Teacher logits on disk: one HDF5 file that describes and defends itself."""

from distill.logit_store.header import UNKNOWN, LogitHeader, differences
from distill.logit_store.layout import UNKNOWN_PIXELS
from distill.logit_store.store import LogitStore, open_logits
from distill.logit_store.writer import LogitWriter

__all__ = [
    "UNKNOWN",
    "UNKNOWN_PIXELS",
    "LogitHeader",
    "LogitStore",
    "LogitWriter",
    "differences",
    "open_logits",
]
