"""The report: one HTML page of tables, figures, pictures and the predictions behind each number."""
