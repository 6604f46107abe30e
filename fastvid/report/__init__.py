"""Pictures and pages about runs. Reads files of a run directory only."""
