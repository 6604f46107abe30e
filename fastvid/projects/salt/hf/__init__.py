"""The code that an exported encoder carries where transformers has no class for it."""
