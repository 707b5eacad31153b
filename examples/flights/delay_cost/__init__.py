"""The delay cost service: what a late flight costs, and why. Standard library only."""
