"""The number of the wire protocol between engines and views; extension/PROTOCOL.md tells its rules."""

PROTOCOL_VERSION = 2
