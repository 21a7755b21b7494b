"""Teacher logits on disk: one HDF5 file that describes itself and notices damage."""

from distill.logit_store.feature import FEATURE_DTYPES, Feature
from distill.logit_store.header import UNKNOWN, LogitHeader, differences
from distill.logit_store.layout import UNKNOWN_PIXELS
from distill.logit_store.parts import Shard, merge_parts
from distill.logit_store.store import CLASS_MATCHES, LogitStore, open_logits
from distill.logit_store.writer import LogitWriter

__all__ = [
    "CLASS_MATCHES",
    "FEATURE_DTYPES",
    "UNKNOWN",
    "UNKNOWN_PIXELS",
    "Feature",
    "LogitHeader",
    "LogitStore",
    "LogitWriter",
    "Shard",
    "differences",
    "merge_parts",
    "open_logits",
]
