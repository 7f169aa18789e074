"""The gateway as a service of systemd or launchd.

`choice` says with which manager, `systemd` and `launchd` write the unit,
`registry` puts it in place and takes it away. `mosaic_gateway.gateway.control.service` starts and stops it.
"""
