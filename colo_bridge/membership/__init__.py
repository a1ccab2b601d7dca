"""Who is there, and who may speak: events and times in, actions out."""
