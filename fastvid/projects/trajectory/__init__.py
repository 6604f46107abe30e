"""Trajectory: which objects persist, which pass by, and attention that is supervised and measured."""
