"""The gateway process: start-up, serving and shutdown."""
