"""Latent diffusion models: the library. It imports neither Prefect nor DVC."""
