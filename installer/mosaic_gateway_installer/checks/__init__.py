"""What doctor asks an installation: one module for each family of checks, `run.CHECKS` the list."""
