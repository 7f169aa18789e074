"""The installer: everything that changes the machine around a gateway. The runtime never imports it."""
