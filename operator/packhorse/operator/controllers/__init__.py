"""Reconcilers, one file a kind: observe, let the domain decide, carry it out."""
