"""Foveated vision-language model: each frame is read through one glance whose query the language model predicts."""
