"""Shards of pictures, cached latents, the order in which training sees them, tokens, and keyed randomness."""
