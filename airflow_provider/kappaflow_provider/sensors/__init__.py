"""Sensors that wait for a region: for room, for its lag, for its egress."""
