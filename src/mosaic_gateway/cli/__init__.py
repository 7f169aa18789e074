"""The command line of a running installation; the installer adds its own verbs to it."""
