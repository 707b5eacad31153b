"""Hooks of the connection types `kappaflow_kafka` and `schema_registry`."""
