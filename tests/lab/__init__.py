"""The lab owns the names cb-client, cb-host, cb-primary and cb-secondary: its tests never run at once."""
