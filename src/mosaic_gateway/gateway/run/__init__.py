"""The life of a gateway in its own process: start-up, serving, shutdown."""
