"""The gateway's own runtime: a copy of the installed distribution and all that it needs, below the home.

`closure` says which distributions those are, `parts` which files each consists of, `copying` copies them and
holds each against its recorded hash; modules go into one `archive`, in which the copy's own `finder` finds them.
`store` names, finds, switches and removes the copies of a home.
`mosaic_gateway.gateway.control.program` runs them.
"""
