"""The demo data set: rendered videos of moving shapes."""
