"""From labelled videos to training, validation and test."""
