"""Hooks of the connection types `kappaflow_kafka` and `kappaflow_registry`."""
