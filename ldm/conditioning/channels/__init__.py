"""Conditions that are concatenated to the noisy latent, one folder a kind."""
