"""Long runs, each a program with one JSON line last; not part of `make test`."""
