"""Who publishes the same rows, each as a program of its own, and what is looked at afterwards."""
