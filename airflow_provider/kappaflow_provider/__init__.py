"""Airflow provider of KappaFlow: one operator or sensor for each stage of a job, thin over `kappaflow`.

Importing this package, or any module of it, imports neither `kappaflow` nor its extension module: Airflow forks its
tasks, so nothing here may start a thread before a task runs.
"""

__version__ = "0.1.0"
