"""Scoring images with networks: logits of any views, into a store or into a batch, and checks of networks."""
