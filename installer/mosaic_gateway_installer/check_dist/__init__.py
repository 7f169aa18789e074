"""The gate over built archives: ``python -m mosaic_gateway_installer.check_dist``."""
