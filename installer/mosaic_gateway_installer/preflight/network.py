"""The address that the gateway shall listen on."""

from __future__ import annotations

from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway.process.ports import bind_listener
from mosaic_gateway_installer.preflight.subject import Subject

__all__ = ["port"]


def port(subject: Subject) -> str:
    """Take the port for an instant, unless our own gateway has it. Raises `PortTakenError`, `AddressUnusableError`."""
    config = subject.config
    holder = holder_of(config.home.gateway_lock)
    if holder is not None and holder.facts.get("local_url", config.local_url) == config.local_url:
        return f"our own gateway has {config.local_url}, or is about to"
    with bind_listener(config.host, config.port):
        return f"port {config.port} on {config.host} is free"
