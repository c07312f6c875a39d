"""What both halves stand on: settings, tables, figures, downloads, and runs that are kept."""
