"""Conditions that the UNet attends to, one folder a kind."""
