"""External logits and for elsewhere: .npz, .csv, and pickled dictionaries."""

from distill.logit_store.exchange.formats import export_logits, import_logits

__all__ = ["export_logits", "import_logits"]
