"""The parts of demo.py: its directory, its processes, Airflow, the counts it watches, the screen, the check."""
