"""KappaFlow: run every row of a warehouse table through a production service, once, and account for each."""
