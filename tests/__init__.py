"""Tests of fastvid; a package, so that another one of this name that is installed does not hide it."""
