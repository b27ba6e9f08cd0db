"""Results of many runs: tables, the page, the summary."""
