"""Many runs of one recipe, and their comparison. Starts runs as processes and reads what they leave behind."""
