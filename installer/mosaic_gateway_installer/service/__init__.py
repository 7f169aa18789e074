"""The gateway as a service of systemd or launchd.

`manager_selection` selects the manager, `systemd` and `launchd` compose the unit file, `edits` finds the changes that
a user has edited into it, `registry` installs and removes it. `mosaic_gateway.gateway.control.service` starts and
stops the service.
"""
