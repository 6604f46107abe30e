"""fVLM: a vision-language model that reads each frame through one glance."""
