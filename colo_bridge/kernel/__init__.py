"""The kernel boundary: held packets, TAPs, diversion rules, links and traffic control."""
