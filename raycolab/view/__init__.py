"""What people look at: panels in notebooks, lines and tables in terminals, charts and the report."""
