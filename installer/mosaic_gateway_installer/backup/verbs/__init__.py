"""The verbs of ``mosaic-gateway backup``."""
