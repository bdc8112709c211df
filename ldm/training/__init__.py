"""Small pieces that both training loops share: exactness, optimiser, EMA, checkpoints."""
