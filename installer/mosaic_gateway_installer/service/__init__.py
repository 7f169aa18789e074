"""The gateway as a service of systemd or launchd.

`manager_selection` says with which manager, `unit_file` composes the unit, `registry` installs and removes it.
`mosaic_gateway.gateway.control.service` starts and stops it.
"""
