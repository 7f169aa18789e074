"""The command line of an installation; the installer adds its own verbs."""
