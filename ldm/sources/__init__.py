"""Readers of raw formats, drawn scenes, and `prepare`, which turns either into shards."""
