"""Models of others: checkpoints as the paper's authors released them, and folders of diffusers."""
