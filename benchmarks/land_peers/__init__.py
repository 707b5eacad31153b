"""Who lands the same answers, and what writing Parquet alone takes."""
