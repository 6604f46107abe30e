"""The projects: a folder for each, none importing another."""
