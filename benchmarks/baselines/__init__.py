"""Published training steps restated in plain PyTorch, to compare with."""
