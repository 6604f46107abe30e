"""The code that an exported model carries: transformers, PyTorch and Pillow alone, and nothing of fastvid.

These files are copied into the exported folder, where ``trust_remote_code`` runs them. They import each other by
relative names and nothing else of this package.
"""
