"""Recordings and their sources, the store, frames, splits, and who saw what."""
