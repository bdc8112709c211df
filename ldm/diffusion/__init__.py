"""Diffusion models of latents: schedule, denoiser, loss and the training loop."""
