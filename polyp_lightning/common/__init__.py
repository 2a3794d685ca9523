"""What every room may use: errors, files, locks, tables, the terminal, the machine."""
