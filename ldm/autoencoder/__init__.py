"""First stages: picture to latent and back."""
