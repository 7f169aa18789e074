"""The program copy: a copy of the installed distribution and its dependencies in the home, from which the gateway runs.

`distributions` determines which distributions these are, and which files each consists of. `tree_writer` copies the
files and verifies each against its recorded hash; it stores modules in one archive, from which the copy's `finder`
imports them. `store` creates, finds and switches the copies of a home, which
`mosaic_gateway.gateway.control.program` runs.
"""
