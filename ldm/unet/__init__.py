"""The conditional UNet."""
