"""Who is there, and which of the two sides may speak to the clients; events and times in, actions out."""
