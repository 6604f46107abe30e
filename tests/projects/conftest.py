"""Fixtures of the projects' tests."""

from tests.train.conftest import environment, salt  # noqa: F401
